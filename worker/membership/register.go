package membership

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/grouppolicy"
	"github.com/hawser-project/hawser/cluster/hosted"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
)

const approved = "APPROVED"

// register registers a virtual node with its static network: the group policy must list it, and network set-up must have
// been done, so that its member information has a key that peers can check. Then it is a member at once, in its own eyes
// and in those of the other virtual nodes of the network here.
func (w *Worker) register(ctx context.Context, tx *bus.Tx, hash string, req topic.Registration) (topic.RegistrationStatus, error) {
	node, info, policy, err := w.node(ctx, hash)
	if err != nil {
		return topic.RegistrationStatus{}, err
	}
	listed, err := listedMember(policy, node)
	if err != nil {
		return topic.RegistrationStatus{}, err
	}
	own, found, err := hostedIdentities.Get(tx, hash, "")
	if err != nil {
		return topic.RegistrationStatus{}, err
	}
	if !found {
		return topic.RegistrationStatus{}, fault.New(fault.Invalid,
			"virtual node %s has no session key and endpoint certificate yet: PUT /network/setup/%s first", hash, hash)
	}
	if err := checkContext(req.Context); err != nil {
		return topic.RegistrationStatus{}, err
	}
	before, again, err := members.Get(tx, hash, hash)
	if err != nil {
		return topic.RegistrationStatus{}, err
	}
	serial := listed.Serial
	if again {
		serial = before.Info.Serial() + 1
	}
	record := member.Record{Info: memberInfo(node, info, listed, own, serial, tx.Now())}
	record.TLSTrustRoots = trustRoots(own)
	if err := record.Info.Check(); err != nil {
		return topic.RegistrationStatus{}, err
	}
	if err := w.show(tx, node, record); err != nil {
		return topic.RegistrationStatus{}, err
	}
	now := tx.Now().UnixMilli()
	status := topic.RegistrationStatus{ID: req.ID, Status: approved, Context: req.Context, SentAt: now, UpdatedAt: now, Serial: serial}
	registrations.Put(tx, hash, req.ID, status)
	return status, nil
}

// listedMember finds the virtual node in the group policy.
func listedMember(policy *grouppolicy.Policy, node vnode.VirtualNode) (grouppolicy.StaticMember, error) {
	if policy.Network == nil {
		return grouppolicy.StaticMember{}, fault.New(fault.NotImplemented, "the network is run by a manager; this release has static networks only")
	}
	for _, m := range policy.Network.Members {
		if m.Name == node.Identity.Name {
			return m, nil
		}
	}
	return grouppolicy.StaticMember{}, fault.New(fault.Invalid, "the static network of the group policy does not list %s", node.Identity.Name)
}

// checkContext refuses a context that says something else than what will be registered (spec/networks.md 6.3).
func checkContext(given map[string]string) error {
	for name, value := range given {
		switch name {
		case "corda.key.scheme":
			scheme, err := key.ParseScheme(value)
			if err != nil {
				return err
			}
			if !scheme.ForSessions() {
				return fault.New(fault.Invalid, "corda.key.scheme %s can't be used for session keys", scheme)
			}
		default:
			if !strings.HasPrefix(name, "ext.") {
				return fault.New(fault.Invalid, "a registration with a static network takes corda.key.scheme and ext.*, not %q", name)
			}
		}
	}
	return nil
}

func memberInfo(node vnode.VirtualNode, info cpi.Info, listed grouppolicy.StaticMember, own hosted.Identity, serial int64, now time.Time) member.Info {
	d := member.Description{
		Name: node.Identity.Name, GroupID: node.Identity.GroupID, SessionKeys: sessionKeyEntries(own),
		CPIName: info.ID.Name, CPIVersion: info.ID.Version, CPISigner: info.ID.SignerSummaryHash, Software: software,
	}
	for _, e := range listed.Endpoints {
		d.Endpoints = append(d.Endpoints, member.Endpoint{URL: e.URL, ProtocolVersion: e.ProtocolVersion})
	}
	stamp := now.UTC().Format(time.RFC3339)
	return member.Info{
		Member: d.Context(),
		MGM: member.NewContext(map[string]string{
			member.KeyStatus: listed.Status, member.KeySerial: strconv.FormatInt(serial, 10),
			member.KeyCreated: stamp, member.KeyModified: stamp,
		}),
	}
}

// software is the corda.softwareVersion that our members state.
const software = "Hawser"

func sessionKeyEntries(own hosted.Identity) (entries []member.Key) {
	for _, k := range append([]hosted.SessionKey{own.Preferred}, own.Alternatives...) {
		entries = append(entries, member.Key{PEM: publicPEM(k.SPKI), Hash: key.FullIDOf(k.SPKI), Spec: specOf(k.SPKI)})
	}
	return entries
}

// specOf is the signature spec that link sessions use for a key: SHA-256 with ECDSA or RSA (spec/p2p-wire.md 3.1).
func specOf(spki []byte) string {
	public, _, err := key.ParsePublicPEM(publicPEM(spki))
	if err != nil {
		return ""
	}
	if scheme, err := key.SchemeOf(public); err == nil && scheme == key.RSA {
		return string(key.SHA256RSA)
	}
	return string(key.SHA256ECDSA)
}

func publicPEM(spki []byte) string { return key.EncodePublicPEM(spki) }

// trustRoots is what a peer must trust to reach our endpoint: the end of our chain.
func trustRoots(own hosted.Identity) []string {
	if n := len(own.TLSCertificates); n > 0 {
		return own.TLSCertificates[n-1:]
	}
	return nil
}

// show puts a member of this cluster on its own list and on those of the other virtual nodes of its network here, and
// these on its list. Member lists of other keys are shared state: registrations that meet run again.
func (w *Worker) show(tx *bus.Tx, node vnode.VirtualNode, record member.Record) error {
	hash := string(node.ShortHash())
	put(tx, hash, hash, record)
	for other, n := range w.vnodes.All() {
		if other == hash || n.Identity.GroupID != node.Identity.GroupID {
			continue
		}
		theirs, registered, err := members.Get(tx, other, other)
		if err != nil {
			return err
		}
		if registered {
			put(tx, other, hash, record)
			put(tx, hash, other, theirs)
		}
	}
	return nil
}

func put(tx *bus.Tx, viewer, seen string, record member.Record) {
	members.Put(tx, viewer, seen, record)
	topic.Members.Send(tx, viewer+"/"+seen, record)
}

func (w *Worker) registrations(ctx context.Context, ref topic.RegistrationRef) (list []topic.RegistrationStatus, err error) {
	if _, _, _, err := w.node(ctx, ref.Holder); err != nil {
		return nil, err
	}
	err = w.Bus.View(ctx, func(r bus.Reader) error {
		entries, err := registrations.List(r, ref.Holder, "")
		list = make([]topic.RegistrationStatus, 0, len(entries))
		for _, e := range entries {
			if ref.ID == "" || e.Row == ref.ID {
				list = append(list, e.Value)
			}
		}
		return err
	})
	if err == nil && ref.ID != "" && len(list) == 0 {
		err = fault.New(fault.NotFound, "virtual node %s has no registration %s", ref.Holder, ref.ID)
	}
	return list, err
}
