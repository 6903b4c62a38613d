package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/call"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/internal/pki"
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

// OperatorOfWorker asks any worker process of a cluster, which asks the others. The certificate names the role operator.
func OperatorOfWorker(address, certificate, key, authority string) (*Operator, error) {
	loader, err := pki.Files{Cert: certificate, Key: key, CA: authority}.Load(slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if !loader.Identity().Has(string(bus.Operator)) {
		return nil, fmt.Errorf("the certificate %s does not name the role %s: hawser pki issue --role %s makes one that does", certificate, bus.Operator, bus.Operator)
	}
	client := call.NewClient(call.ClientConfig{TLS: loader, Log: slog.New(slog.DiscardHandler)})
	return &Operator{func(ctx context.Context, r bus.Request) ([]byte, error) {
		return askWorkers(ctx, client, bus.Instance{Address: address}, r)
	}}, nil
}

// askWorkers asks a process, and those that it says may have the answer. Who has a key may change meanwhile.
func askWorkers(ctx context.Context, client *call.Client, first bus.Instance, r bus.Request) ([]byte, error) {
	a, err := client.Send(ctx, first, r)
	if err != nil {
		return nil, err
	}
	for _, next := range a.Elsewhere {
		if better, sendErr := client.Send(ctx, next, r); sendErr != nil {
			err = sendErr
		} else if a = better; !a.NotHere {
			break
		}
	}
	switch {
	case a.NotHere:
		return nil, errors.Join(fmt.Errorf("no worker of role %s can be asked now", r.Role), err)
	case a.Err != nil:
		return nil, fault.Codec{}.DecodeError(a.Err)
	}
	return a.Body, nil
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
