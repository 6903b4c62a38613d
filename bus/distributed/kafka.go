package distributed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// maxMessage is the largest batch that a topic takes. A batch holds a record of bus.MaxValue with its key, and is bounded
// below it in batches of several.
const maxMessage = 2 << 20

// clientOptions are those of every Kafka client of the process.
func clientOptions(k Kafka, log *slog.Logger) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(k.Brokers...),
		kgo.ClientID("hawser"),
		kgo.WithLogger(kafkaLog{log}),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.DisableClientMetrics(),
		kgo.RetryTimeout(10 * time.Second),
	}
	switch {
	case k.Dial != nil:
		opts = append(opts, kgo.Dialer(k.Dial))
	case k.TLS != nil:
		opts = append(opts, kgo.DialTLSConfig(tlsFor(k.TLS)))
	default:
		opts = append(opts, kgo.Dialer((&net.Dialer{Timeout: 5 * time.Second}).DialContext))
	}
	switch k.SASL.Mechanism {
	case "":
	case "PLAIN":
		opts = append(opts, kgo.SASL(plain.Auth{User: k.SASL.User, Pass: k.SASL.Password.RevealString()}.AsMechanism()))
	case "SCRAM-SHA-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: k.SASL.User, Pass: k.SASL.Password.RevealString()}.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: k.SASL.User, Pass: k.SASL.Password.RevealString()}.AsSha512Mechanism()))
	default:
		return nil, fmt.Errorf("SASL mechanism %q is not known: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", k.SASL.Mechanism)
	}
	return opts, nil
}

func tlsFor(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	return c
}

func openKafka(k Kafka, log *slog.Logger) (*kgo.Client, error) {
	opts, err := clientOptions(k, log)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("make the client of Kafka: %w", err)
	}
	return client, nil
}

// kafkaLog hands on what the client says. Its warnings are about single requests, which are tried again: what matters of
// them is said by who waits.
type kafkaLog struct{ log *slog.Logger }

func (kafkaLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (l kafkaLog) Log(level kgo.LogLevel, text string, attrs ...any) {
	at := slog.LevelDebug
	if level == kgo.LogLevelError {
		at = slog.LevelWarn
	}
	l.log.Log(context.Background(), at, "kafka client", append([]any{"detail", text}, attrs...)...)
}

// kafkaWait tries what needs Kafka until it succeeds or ctx ends.
func (d *Driver) kafkaWait(ctx context.Context, what string, fn func(ctx context.Context) error) error {
	var told time.Time
	for wait := minBackoff; ; wait = min(2*wait, maxBackoff) {
		err := fn(ctx)
		var final *topicError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &final):
			return err
		}
		if time.Since(told) > tellEvery {
			told = time.Now()
			d.log.WarnContext(ctx, "bus waits", "what", what, "error", err)
		}
		if !pause(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// topicError is a topic that can't be what it was: waiting does not help.
type topicError struct{ text string }

func (e *topicError) Error() string { return e.text }
