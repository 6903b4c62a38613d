package process

import (
	"context"
	"errors"
	"fmt"

	"github.com/hawser-project/hawser/bus"
)

// Operator asks the bus of a running cluster, in the name of a person.
type Operator struct {
	ask func(ctx context.Context, r bus.Request) ([]byte, error)
}

// OperatorOfData asks the process that runs on a data directory.
func OperatorOfData(data string) *Operator {
	return &Operator{func(ctx context.Context, r bus.Request) ([]byte, error) {
		octets, err := askControl(ctx, data, "/operate", operateRequest{r.Name, r.Role, []byte(r.Key), []byte(r.ID)})
		if errors.Is(err, errNoProcess) {
			err = fmt.Errorf("%w: start hawser up on %s first", err, data)
		}
		return octets, err
	}}
}

// Held lists the inputs of a role that are set aside; those of one key, with their values, where key is not empty.
func (o *Operator) Held(ctx context.Context, role bus.Role, key string) (list []bus.Held, err error) {
	octets, err := o.ask(ctx, bus.HeldRequest(role, key))
	if err != nil {
		return nil, err
	}
	return list, bus.Decode(octets, &list)
}

// Replay hands in again, in order, what is set aside under a key.
func (o *Operator) Replay(ctx context.Context, role bus.Role, key string) error {
	_, err := o.ask(ctx, bus.ReplayRequest(role, key))
	return err
}

// Drop removes one input that was set aside, for good.
func (o *Operator) Drop(ctx context.Context, role bus.Role, key, row string) error {
	_, err := o.ask(ctx, bus.DropRequest(role, key, row))
	return err
}
