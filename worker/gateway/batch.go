package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"

	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/p2p"
)

// A batch is link messages in one request, each after its length as 4 octets, big-endian: gateway messages in the
// request, sealed acknowledgements (p2p.AppendPayload) in the answer. A server offers it in a header of every answer; a
// client uses it towards the server that has, and goes back to single messages when it is refused.
const (
	maxBatch         = 8 << 20
	maxBatchMessages = 4096
)

var errBatch = errors.New("not a batch")

func appendBatch(b []byte, items [][]byte) []byte {
	for _, item := range items {
		b = binary.BigEndian.AppendUint32(b, uint32(len(item)))
		b = append(b, item...)
	}
	return b
}

func splitBatch(b []byte) (items [][]byte, err error) {
	for len(b) > 0 {
		if len(b) < 4 || len(items) == maxBatchMessages {
			return nil, errBatch
		}
		n := binary.BigEndian.Uint32(b)
		b = b[4:]
		if uint64(n) > uint64(len(b)) || n > maxBody {
			return nil, errBatch
		}
		items = append(items, b[:n:n])
		b = b[n:]
	}
	return items, nil
}

// answerBatch takes a batch: all of it or nothing.
func (w *Worker) answerBatch(ctx context.Context, octets []byte) (status int, body []byte) {
	items, err := splitBatch(octets)
	if err != nil {
		return http.StatusBadRequest, nil
	}
	d := topic.Delivery{Acks: true, Messages: make([]topic.LinkMessage, 0, len(items))}
	for _, item := range items {
		m, err := p2p.DecodeGatewayMessage(item)
		if err != nil {
			return http.StatusBadRequest, nil
		}
		d.Messages = append(d.Messages, topic.LinkMessage{Body: item, Decoded: m})
	}
	receipt, err := w.deliver(ctx, d)
	if err != nil {
		return http.StatusServiceUnavailable, nil
	}
	return http.StatusOK, appendBatch(nil, receipt.Acks)
}
