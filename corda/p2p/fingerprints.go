package p2p

import "github.com/hawser-project/hawser/corda/avro"

// The fingerprints of the records that stand in an envelope or in single-object encoding, Corda 5.3 unless said
// otherwise (spec/p2p-wire.md 2.9). They never change; a test computes each from its schema.
var (
	gatewayMessage = avro.NewType("net.corda.data.p2p.gateway.GatewayMessage",
		"78e7e4741a86ba7335515a9c8ee858458be6c316210d217c8666dfa563db72e4", "73db03fd307619c7")
	gatewayResponse = avro.NewType("net.corda.data.p2p.gateway.GatewayResponse",
		"85f403f8db3318b9b97a9507c7ab38e81d8805fc0ed45772a417749f441fb01e", "af3f7a014881807b")
	gatewayResponse51 = avro.NewType("net.corda.data.p2p.gateway.GatewayResponse", // 5.0 and 5.1
		"f59d15a90af0e23adbe37de9c396c0387ed3b77d4c1553279fc2dec50d45ce3a", "ac304686a598fdb4")
	commonHeader = avro.NewType("net.corda.data.p2p.crypto.CommonHeader",
		"81f5afcbaae30498f5d9308d9100149df52153734fa51557b7019a60b770c998", "8b52de2b1d5b1997")
	initiatorHello = avro.NewType("net.corda.data.p2p.crypto.InitiatorHelloMessage",
		"256b3bb7a9e7c433dba9f02e918ade3cd817cc885c2012227b51ea74bbf30a50", "9d3c4f96d9abb424")
	responderHello = avro.NewType("net.corda.data.p2p.crypto.ResponderHelloMessage",
		"35f2dcf7c88606de61d7c08b5c397a264a1f119c24491f135250a121fb074dd4", "fa375167f8bc66b4")
	initiatorHandshakePayload = avro.NewType("net.corda.data.p2p.crypto.internal.InitiatorHandshakePayload",
		"a93d067f09c269c8188179bdaffa4a31d1505a46d9153aacb458e7ba74399cb1", "b47261e3fd3a3667")
	responderHandshakePayload = avro.NewType("net.corda.data.p2p.crypto.internal.ResponderHandshakePayload",
		"1787d89db8f166bcde24bebcd620349e37e9458ffbc9aa0e9899cec24c38523a", "70352e6fdeb4f5ba")
	reEstablishSession = avro.NewType("net.corda.data.p2p.ReEstablishSessionMessage",
		"47682ccc5342d619093c3179c6114e270297ee59d0c908d1c8ce130602388e9c", "4504a6bb9f5eef97")

	// Indexed by Form.
	dataMessagePayload = [2]avro.Type{
		Form53: avro.NewType("net.corda.data.p2p.DataMessagePayload",
			"496adb69d903618897051e6754e6ce2573e062e1e6bf2634b8a19a04c069ae21", "99e619a29aa88781"),
		Form52: avro.NewType("net.corda.data.p2p.DataMessagePayload",
			"a25431db1d9e9d90de248e273c4a9260d82116d2b5da042b925a8b67d0d9df21", "1fd5f49ea08942ab"),
	}
	messageAck = [2]avro.Type{
		Form53: avro.NewType("net.corda.data.p2p.MessageAck",
			"7887836177854b927cee9de9c9d9ef07e5983fa51df14507a16f692d21d6250b", "cbb9ac11b0b84819"),
		Form52: avro.NewType("net.corda.data.p2p.MessageAck",
			"7aa2dbb6e200315c1f2bfbf91c5a4940a67aa1f79d5548582d9ebc96ceca06c6", "5dec6a4a8ba2face"),
	}
)
