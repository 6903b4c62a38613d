// Package sdk is the root of what an author of Hawser flows imports. It holds no code: write flows with package
// flow, test them natively with package flowtest, and read examples/trade for a whole application.
//
// An application is a main package that registers its flows in init and has an empty main. It is built with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -buildvcs=false \
//		-ldflags="-s -w -buildid=" -o trade.wasm ./examples/trade
//
// The flags make the build reproducible: the same source and Go release give the same octets, so the same module
// hash. The module has no dependencies and its Go API is stable.
package sdk
