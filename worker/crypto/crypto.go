// Package crypto is the worker that alone holds private keys of identities and endpoints: it makes them, keeps them
// wrapped, and signs with them when a worker asks that may sign for that purpose. A private key is in clear only in this
// worker's memory, and leaves it never.
//
//	master key (boot secret) ── wraps ──> managed key (one per tenant) ── wraps ──> private keys
//	          └─────────────── wraps ──> data keys (one per purpose), given to the worker of the purpose
package crypto

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/internal/secret"
)

// Config is what the worker needs.
type Config struct {
	Bus *bus.Client
	Log *slog.Logger
	// Passphrase and Salt make the master wrapping key (spec/networks.md 5.2).
	Passphrase secret.Secret
	Salt       string
}

// masterAlias names the master key, as Corda's default configuration does.
const masterAlias = "root1"

// Kinds of state. Their key is the tenant.
var (
	keys        = bus.State[key.Record]{Name: "crypto.keys", Owner: topic.Crypto}             // row: key id
	aliases     = bus.State[key.ID]{Name: "crypto.aliases", Owner: topic.Crypto}              // row: alias
	managedKeys = bus.State[key.ManagedKey]{Name: "crypto.managed-keys", Owner: topic.Crypto} // row: ""
	assignments = bus.State[key.Assignment]{Name: "crypto.assignments", Owner: topic.Crypto}  // row: category
	dataKeys    = bus.State[[]byte]{Name: "crypto.data-keys", Owner: topic.Crypto}            // wrapped; key: "data/" and the purpose
)

// Worker is the crypto worker.
type Worker struct {
	Config
	master *key.WrappingKey
	vnodes *bus.Table[vnode.VirtualNode]

	tls, session, member, csr *lane

	mu      sync.Mutex
	signers map[signerKey]*signer
}

// New wires the worker. It does no I/O.
func New(c Config) *Worker {
	return &Worker{
		Config: c, vnodes: topic.VirtualNodes.Table(c.Bus), signers: make(map[signerKey]*signer),
		tls: newLane("tls"), session: newLane("session"), member: newLane("member"), csr: newLane("csr"),
	}
}

// Run answers until ctx ends.
func (w *Worker) Run(ctx context.Context, ready func()) error {
	var err error
	if w.master, err = key.MasterKey(w.Passphrase, w.Salt); err != nil {
		return err
	}
	consumer := w.Bus.Consumer()
	topic.GenerateKey.Handle(consumer, w.generate)
	topic.AssignHSM.Handle(consumer, w.assign)
	topic.EnsureDataKey.Handle(consumer, w.ensureDataKey)
	for _, stop := range []func(){
		topic.Keys.Answer(w.Bus, w.list),
		topic.HSM.Answer(w.Bus, w.assignment),
		topic.SignTLS.Answer(w.Bus, w.signFor(w.tls, key.TLS)),
		topic.SignSession.Answer(w.Bus, w.signFor(w.session, key.SessionInit)),
		topic.SignMember.Answer(w.Bus, w.signFor(w.member, key.SessionInit)),
		topic.SignCSR.Answer(w.Bus, w.signFor(w.csr, "")),
		topic.DataKey.Answer(w.Bus, w.dataKey),
	} {
		defer stop()
	}
	tableCtx, stopTable := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- w.vnodes.Run(tableCtx, func() {}) }()
	markMaster.Handle(consumer, w.markMaster)
	err = consumer.RunAfter(ctx, w.tryMaster, ready)
	stopTable()
	if tableErr := <-ended; err == nil {
		err = tableErr
	}
	return err
}

// markMaster keeps something that the first master key of the cluster has wrapped. Whoever does it, each process tries its
// own master key on it.
var markMaster = bus.Command[struct{}, []byte]{Name: "crypto.mark-master", Askers: []bus.Role{topic.Crypto}, Answers: topic.Crypto}

// masterKeyRow is the key of what markMaster keeps: a wrapped random value.
const masterKeyRow = "data/master-check"

// tryMaster finds out at the start whether the master key is the one that everything was wrapped with, rather than at the
// first signature.
func (w *Worker) tryMaster(ctx context.Context) error {
	wrapped, _, err := markMaster.Do(ctx, w.Bus, masterKeyRow, uuid.NewString(), struct{}{})
	if err != nil {
		return err
	}
	if _, err := w.master.Unwrap(wrapped); err != nil {
		return fault.New(fault.Invalid, "the master passphrase or salt is not the one that this cluster's keys were wrapped with")
	}
	return nil
}

func (w *Worker) markMaster(_ context.Context, tx *bus.Tx, stateKey string, _ struct{}) ([]byte, error) {
	if wrapped, found, err := dataKeys.Get(tx, stateKey, ""); err != nil || found {
		return wrapped, err
	}
	wrapped := w.master.Wrap(randomKey())
	dataKeys.Put(tx, stateKey, "", wrapped)
	return wrapped, nil
}

// generate makes a key pair for a tenant.
func (w *Worker) generate(ctx context.Context, tx *bus.Tx, _ string, req topic.NewKey) (topic.KeyInfo, error) {
	tenant, category, err := w.tenantCategory(ctx, req.Tenant, req.Category)
	if err != nil {
		return topic.KeyInfo{}, err
	}
	scheme, err := key.ParseScheme(req.Scheme)
	if err != nil {
		return topic.KeyInfo{}, err
	}
	if err := key.Check(tenant, req.Alias, category, scheme); err != nil {
		return topic.KeyInfo{}, err
	}
	if _, taken, err := aliases.Get(tx, string(tenant), req.Alias); err != nil {
		return topic.KeyInfo{}, err
	} else if taken {
		return topic.KeyInfo{}, fault.New(fault.Conflict, "tenant %s has a key with the alias %q already", tenant, req.Alias)
	}
	managed, wrap, err := w.managed(tx, tenant)
	if err != nil {
		return topic.KeyInfo{}, err
	}
	if _, assigned, err := assignments.Get(tx, string(tenant), string(category)); err != nil {
		return topic.KeyInfo{}, err
	} else if !assigned && tenant.OfVirtualNode() {
		return topic.KeyInfo{}, fault.New(fault.Invalid,
			"tenant %s is not configured for category %s: POST /hsm/soft/%s/%s first", tenant, category, tenant, category)
	}
	record, err := key.New(tenant, req.Alias, category, scheme, managed, wrap, tx.Now())
	if err != nil {
		return topic.KeyInfo{}, err
	}
	keys.Put(tx, string(tenant), string(record.ID), record)
	aliases.Put(tx, string(tenant), req.Alias, record.ID)
	return info(record), nil
}

// managed returns the tenant's wrapping key, and makes it at its first use.
func (w *Worker) managed(tx *bus.Tx, tenant key.Tenant) (key.ManagedKey, *key.WrappingKey, error) {
	managed, found, err := managedKeys.Get(tx, string(tenant), "")
	if err != nil {
		return managed, nil, err
	}
	if found {
		wrap, err := managed.Unwrap(w.master)
		return managed, wrap, err
	}
	managed, wrap, err := key.NewManagedKey(tenant, 1, masterAlias, w.master, tx.Now())
	if err != nil {
		return managed, nil, err
	}
	managedKeys.Put(tx, string(tenant), "", managed)
	return managed, wrap, nil
}

// assign makes a tenant ready to have keys of a category. Again is no error.
func (w *Worker) assign(ctx context.Context, tx *bus.Tx, _ string, req topic.HSMRequest) (key.Assignment, error) {
	tenant, category, err := w.tenantCategory(ctx, req.Tenant, req.Category)
	if err != nil {
		return key.Assignment{}, err
	}
	if a, found, err := assignments.Get(tx, string(tenant), string(category)); err != nil || found {
		return a, err
	}
	managed, _, err := w.managed(tx, tenant)
	if err != nil {
		return key.Assignment{}, err
	}
	a := key.Assignment{ID: newUUID(), Tenant: tenant, Category: category, MasterAlias: managed.Alias}
	assignments.Put(tx, string(tenant), string(category), a)
	return a, nil
}

func (w *Worker) assignment(ctx context.Context, req topic.HSMRequest) (a key.Assignment, err error) {
	category, err := key.ParseCategory(req.Category)
	if err != nil {
		return a, fault.New(fault.NotFound, "Invalid category: %s", req.Category)
	}
	tenant, err := key.ParseTenant(req.Tenant)
	if err != nil {
		return a, err
	}
	var found bool
	err = w.Bus.View(ctx, func(r bus.Reader) (err error) {
		a, found, err = assignments.Get(r, string(tenant), string(category))
		return err
	})
	if err == nil && !found {
		err = fault.New(fault.NotFound, "No association found for tenant %s category %s", tenant, category)
	}
	return a, err
}

// tenantCategory reads both, and says whether the tenant exists.
func (w *Worker) tenantCategory(ctx context.Context, tenantText, categoryText string) (key.Tenant, key.Category, error) {
	tenant, err := key.ParseTenant(tenantText)
	if err != nil {
		return "", "", err
	}
	category, err := key.ParseCategory(categoryText)
	if err != nil {
		return "", "", err
	}
	return tenant, category, w.exists(ctx, tenant)
}

// exists says whether a tenant is the cluster or a virtual node. The table may lag behind the call that made the node.
func (w *Worker) exists(ctx context.Context, tenant key.Tenant) error {
	if !tenant.OfVirtualNode() {
		return nil
	}
	if _, found := w.vnodes.Get(string(tenant)); found {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := w.vnodes.WaitCurrent(ctx); err != nil {
		return err
	}
	if _, found := w.vnodes.Get(string(tenant)); !found {
		return fault.New(fault.NotFound, "Virtual Node '%s' not found.", tenant)
	}
	return nil
}

// list returns a tenant's keys, in order of their ids.
func (w *Worker) list(ctx context.Context, f topic.KeyFilter) ([]topic.KeyInfo, error) {
	wanted := make(map[string]bool, len(f.IDs))
	for _, id := range f.IDs {
		wanted[id] = true
	}
	var found []topic.KeyInfo
	err := w.Bus.View(ctx, func(r bus.Reader) error {
		found = nil
		records, err := keys.List(r, f.Tenant, "")
		if err != nil {
			return err
		}
		managed, _, err := managedKeys.Get(r, f.Tenant, "")
		if err != nil {
			return err
		}
		for _, e := range records {
			k := info(e.Value)
			k.MasterAlias = managed.Alias
			if (len(wanted) == 0 || wanted[k.ID]) && matches(f.Category, k.Category) && matches(f.Scheme, k.Scheme) && matches(f.Alias, k.Alias) {
				found = append(found, k)
			}
		}
		return nil
	})
	return found, err
}

func matches(filter, value string) bool { return filter == "" || filter == value }

func info(r key.Record) topic.KeyInfo {
	return topic.KeyInfo{
		ID: string(r.ID), Tenant: string(r.Tenant), Alias: r.Alias, Category: string(r.Category), Scheme: string(r.Scheme),
		SPKI: r.PublicKey, CreatedAt: r.CreatedAt,
	}
}

// dataKey unwraps the data key of a purpose, and makes it at its first use.
func (w *Worker) dataKey(ctx context.Context, purpose string) (secret.Secret, error) {
	if purpose != topic.LinkSessionPurpose {
		return secret.Secret{}, fault.New(fault.Forbidden, "no data key is given out for %q", purpose)
	}
	// The id is the purpose: however many ask at once, one key is made. A stored key outlives the stored reply.
	id := fmt.Sprintf("%s/%d", purpose, time.Now().Unix()/3600)
	wrapped, _, err := topic.EnsureDataKey.Do(ctx, w.Bus, "data/"+purpose, id, purpose)
	if err != nil {
		return secret.Secret{}, err
	}
	plain, err := w.master.Unwrap(wrapped)
	if err != nil {
		return secret.Secret{}, err
	}
	return secret.New(plain), nil
}

func (w *Worker) ensureDataKey(_ context.Context, tx *bus.Tx, stateKey string, purpose string) ([]byte, error) {
	if wrapped, found, err := dataKeys.Get(tx, stateKey, ""); err != nil || found {
		return wrapped, err
	}
	wrapped := w.master.Wrap(randomKey())
	dataKeys.Put(tx, stateKey, "", wrapped)
	w.Log.Info("made a data key", "purpose", purpose)
	return wrapped, nil
}
