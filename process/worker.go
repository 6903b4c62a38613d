package process

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/call"
	"github.com/hawser-project/hawser/bus/distributed"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/internal/pki"
	"github.com/hawser-project/hawser/internal/run"
	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/internal/telemetry"
)

// maySpeakFor says who asks in the name of whom: link managers hand on what gateways ask, who reach nobody else.
var maySpeakFor = map[bus.Role][]bus.Role{topic.LinkManager: {topic.Gateway}}

// RunWorkers runs some of a cluster's workers until ctx ends, on Kafka and PostgreSQL; or gateways, which reach neither. ready
// is told the addresses once every worker is ready.
func RunWorkers(ctx context.Context, c WorkerConfig, log *slog.Logger, ready func(Addresses)) error {
	if err := c.complete(); err != nil {
		return err
	}
	p, err := newWorkerPlatform(c, log, ready)
	if err != nil {
		return err
	}
	if c.callsOnly() {
		return p.runBehind(ctx)
	}
	return p.runOnBus(ctx)
}

// workerPlatform is what the workers of a process are made of that is one of many.
type workerPlatform struct {
	*platform
	c       WorkerConfig
	serving call.Serving
	group   run.Group
}

func newWorkerPlatform(c WorkerConfig, log *slog.Logger, ready func(Addresses)) (*workerPlatform, error) {
	certificate, err := pki.Files{Cert: c.Calls.Certificate, Key: c.Calls.Key, CA: c.Calls.Authority}.Load(log)
	if err != nil {
		return nil, err
	}
	is := certificate.Identity()
	for _, role := range c.Roles {
		if !is.Has(role) {
			return nil, fmt.Errorf("the certificate %s is for the roles %v and does not name %s: issue one that does", c.Calls.Certificate, is.Roles, role)
		}
	}
	if is.Cluster != c.Cluster {
		return nil, fmt.Errorf("the certificate %s is of the cluster %q, and this is %q", c.Calls.Certificate, is.Cluster, c.Cluster)
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, err
	}
	registry := telemetry.NewRegistry()
	p := &workerPlatform{c: c, platform: &platform{registry: registry, Config: Config{
		Data: c.Data, Rest: c.Rest.Listen, Gateway: c.Gateway.Listen, Ops: c.Ops.Listen, Profile: c.Ops.Profile,
		RestCert: c.Rest.Certificate, RestKey: c.Rest.Key, AdminPassword: c.Admin.Password,
		MasterPassphrase: c.Crypto.Passphrase, MasterSalt: c.Crypto.Salt, Log: log, Ready: ready,
	}}}
	p.serving = call.Serving{
		TLS: certificate, Serve: p.serve, MaySpeakFor: maySpeakFor, Log: p.log("calls"), Metrics: call.NewMetrics(registry),
	}
	return p, nil
}

// serve answers another process. The carrier has checked that it may ask in the name of r.Asker.
func (p *workerPlatform) serve(ctx context.Context, peer pki.Identity, r bus.Request) bus.Answer {
	if r.Asker == bus.Operator {
		p.Log.InfoContext(ctx, "operator", "who", peer.Instance, "asked", r.Name, "role", r.Role, "key", r.Key)
	}
	return p.bus.Serve(ctx, r)
}

// runOnBus runs workers that have the bus.
func (p *workerPlatform) runOnBus(ctx context.Context) (err error) {
	options, err := p.busOptions()
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, joinTime)
	driver, err := distributed.Open(starting, options)
	cancel()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	client := call.NewClient(call.ClientConfig{TLS: p.serving.TLS, Log: p.serving.Log, Metrics: p.serving.Metrics})
	gateways := call.NewGateways(call.GatewaysConfig{
		Addresses: p.c.Calls.Gateways, Behind: topic.Gateway, Self: driver.Self, Serving: p.serving,
	})
	p.bus = bus.New(driver, bus.Options{
		Log: p.Log, Errors: fault.Codec{}, Metrics: p.registry, Self: driver.Self(), Placement: newPlaces(driver, gateways), Remote: client,
		Behind: []bus.Role{topic.Gateway}, Answerer: topic.Answerer,
	})
	services := []run.Named{
		{Name: "calls out", Service: client},
		{Name: "calls in", Service: call.NewServer(call.ServerConfig{Address: p.c.Calls.Listen, Serving: p.serving})},
	}
	if p.c.has(topic.LinkManager) {
		services = append(services, run.Named{Name: "gateways", Service: gateways})
	}
	services = append(services, p.workers()...)
	return p.run(ctx, append(services, run.Named{Name: "sweep", Service: run.Func(p.sweep)}))
}

// runBehind runs a gateway, which link managers connect to.
func (p *workerPlatform) runBehind(ctx context.Context) error {
	self := bus.Instance{Number: numberBehind(), Name: p.c.Instance, Address: p.c.Calls.Advertise}
	reverse := call.NewReverse(call.ReverseConfig{
		ServerConfig: call.ServerConfig{Address: p.c.Calls.Listen, Serving: p.serving},
		Behind:       topic.Gateway, Through: topic.LinkManager, Self: self,
	})
	p.bus = bus.New(nil, bus.Options{
		Log: p.Log, Errors: fault.Codec{}, Metrics: p.registry, Self: self, Placement: reverse, Remote: reverse,
	})
	return p.run(ctx, append([]run.Named{{Name: "calls", Service: reverse}}, p.workers()...))
}

// numberBehind chooses the number of a process that is not in the database, which gives numbers below.
func numberBehind() uint16 {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails: it crashes the process instead
	return binary.BigEndian.Uint16(b[:]) | 1<<15
}

func (p *workerPlatform) workers() (services []run.Named) {
	for _, r := range roles {
		if p.c.has(r.Name) {
			services = append(services, run.Named{Name: string(r.Name), Service: r.make(p.platform)})
		}
	}
	return services
}

func (p *workerPlatform) run(ctx context.Context, services []run.Named) error {
	ops := run.Named{Name: "ops", Service: &telemetry.Ops{
		Address: p.c.Ops.Listen, Profile: p.c.Ops.Profile, States: p.group.States, Metrics: p.registry, Log: p.Log,
		Bound: p.bound(func(a *Addresses, at net.Addr) { a.Ops = at }),
	}}
	return p.group.Run(ctx, stopTime, func() {
		p.Log.InfoContext(ctx, "workers ready", "instance", p.c.Instance, "roles", p.c.Roles)
		if p.Ready != nil {
			p.Ready(p.snapshot())
		}
	}, append([]run.Named{ops}, services...)...)
}

// busOptions are those of the driver.
func (p *workerPlatform) busOptions() (distributed.Options, error) {
	o, err := p.c.distributed()
	if err != nil {
		return o, err
	}
	for _, r := range p.c.Roles {
		if r != string(topic.Gateway) { // which has nothing there, also where it runs beside those that have
			o.Run = append(o.Run, bus.Role(r))
		}
	}
	o.Name, o.Address, o.Log, o.Metrics = p.c.Instance, p.c.Calls.Advertise, p.Log, p.registry
	return o, nil
}

// distributed says where the bus of the cluster is.
func (c *WorkerConfig) distributed() (o distributed.Options, err error) {
	o = distributed.Options{
		Kafka: distributed.Kafka{
			Brokers: c.Kafka.Brokers, Prefix: c.Cluster,
			SASL: distributed.SASL{Mechanism: c.Kafka.Mechanism, User: c.Kafka.User, Password: c.Kafka.Password},
		},
		Postgres: distributed.Postgres{URL: c.Postgres.URL, Prefix: c.Cluster, Pool: c.Postgres.Connections},
		Topics:   topic.Definitions(),
		Roles:    append(topic.Keyed(), topic.Rest),
	}
	if c.Kafka.TLS {
		o.Kafka.TLS, err = c.Kafka.tls()
	}
	return o, err
}

func (k *KafkaConfig) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.Authority != "" {
		pem, err := os.ReadFile(k.Authority)
		if err != nil {
			return nil, fmt.Errorf("kafka.authority: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.authority: %s has no certificate", k.Authority)
		}
	}
	if k.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(k.Certificate, k.Key)
		if err != nil {
			return nil, fmt.Errorf("kafka.certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// places is who runs where: the members that the database knows, and the gateways behind the link manager of this process.
type places struct {
	members *distributed.Driver
	behind  *call.Gateways
}

func newPlaces(members *distributed.Driver, behind *call.Gateways) *places {
	return &places{members, behind}
}

// Owner implements bus.Placement.
func (p *places) Owner(role bus.Role, partition int32) (bus.Instance, bool) {
	return p.members.Owner(role, partition)
}

// Instances implements bus.Placement.
func (p *places) Instances(role bus.Role) []bus.Instance {
	all := slices.Concat(p.members.Instances(role), p.behind.Instances(role))
	mathrand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) // all get their share
	return all
}

// Changed implements bus.Placement. It is of the members; gateways that come and go are noticed a moment later.
func (p *places) Changed() <-chan struct{} { return p.members.Changed() }

// InitOptions are decided when a cluster is made.
type InitOptions = distributed.InitOptions

// InitBus makes what a cluster needs in Kafka and PostgreSQL, or what is missing of it.
func InitBus(ctx context.Context, c WorkerConfig, in InitOptions) error {
	orDefault(&c.Cluster, "hawser")
	o, err := c.distributed()
	if err != nil {
		return err
	}
	return distributed.Init(ctx, o, in)
}

// Rights returns what each worker needs in PostgreSQL, as SQL, and in Kafka, as comments of it. Users are named with {role}
// in them; empty: the cluster's name and the role.
func Rights(cluster, postgresUser, kafkaUser string) (string, error) {
	o := distributed.Options{
		Kafka: distributed.Kafka{Brokers: []string{"BROKER"}, Prefix: cluster}, Postgres: distributed.Postgres{URL: secret.FromString("-"), Prefix: cluster},
		Topics: topic.Definitions(), Roles: append(topic.Keyed(), topic.Rest),
	}
	users := distributed.Users{Postgres: postgresUser, Kafka: kafkaUser}
	sql, err := distributed.GrantsSQL(o, users)
	if err != nil {
		return "", err
	}
	kafka, err := distributed.GrantsKafka(o, users)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("-- PostgreSQL\n" + sql + "\n-- Kafka\n")
	for line := range strings.Lines(kafka) {
		b.WriteString("-- " + line)
	}
	return b.String(), nil
}
