package linkmanager

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/grouppolicy"
	"github.com/hawser-project/hawser/cluster/hosted"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/p2p"
	"github.com/hawser-project/hawser/corda/session"
)

// unhostedGrace is how long a message waits for its source to become hosted here: the tables may lag behind each other.
const unhostedGrace = 5 * time.Second

// directory answers what is known of identities, from the tables.
type directory struct {
	hosted   *bus.Table[hosted.Identity]
	members  *bus.Table[member.Record]
	vnodes   *bus.Table[vnode.VirtualNode]
	packages *bus.Table[cpi.Info]

	generation atomic.Uint64 // rises with every change

	mu       sync.Mutex
	byKey    map[keyName][]sighting // session keys of members, by group and hash
	inRecord map[string][]keyName   // the keys of a member record, by its key in the table
	policies map[string]*grouppolicy.Policy
}

// keyName is how hellos name a member.
type keyName struct {
	group string
	hash  session.KeyHash
}

// sighting is a session key in the member list of an identity of ours.
type sighting struct {
	record string // key in the table of members: viewer and member
	key    session.PublicKey
}

func newDirectory(c *bus.Client) *directory {
	return &directory{
		hosted: topic.Hosted.Table(c), members: topic.Members.Table(c), vnodes: topic.VirtualNodes.Table(c), packages: topic.Packages.Table(c),
		byKey: make(map[keyName][]sighting), inRecord: make(map[string][]keyName), policies: make(map[string]*grouppolicy.Policy),
	}
}

// onChange calls fn after each change, with the short hashes of whom it concerns: viewer and member, an identity of ours
// alone, or nobody in particular.
func (d *directory) onChange(fn func(ours, peer string)) {
	changed := func(ours, peer string) {
		d.generation.Add(1)
		fn(ours, peer)
	}
	d.members.OnChange(func(key string) {
		d.index(key)
		ours, peer, _ := strings.Cut(key, "/")
		if ours == peer {
			peer = ""
		}
		changed(ours, peer)
	})
	d.hosted.OnChange(func(string) { changed("", "") })
	d.vnodes.OnChange(func(key string) { changed(key, "") })
	d.packages.OnChange(func(string) { changed("", "") })
}

// index keeps byKey in step with one record.
func (d *directory) index(key string) {
	record, found := d.members.Get(key)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range d.inRecord[key] {
		d.byKey[name] = slices.DeleteFunc(d.byKey[name], func(s sighting) bool { return s.record == key })
		if len(d.byKey[name]) == 0 {
			delete(d.byKey, name)
		}
	}
	delete(d.inRecord, key)
	if !found {
		return
	}
	for _, k := range publicKeys(&record) {
		name := keyName{record.Info.GroupID(), k.Hash()}
		d.byKey[name] = append(d.byKey[name], sighting{key, k})
		d.inRecord[key] = append(d.inRecord[key], name)
	}
}

// publicKeys are a member's session keys, as far as we can use them.
func publicKeys(r *member.Record) (keys []session.PublicKey) {
	all, err := r.Info.SessionKeys()
	if err != nil {
		return nil
	}
	for _, k := range all {
		if key, err := session.ParsePublicKey(k.SPKI); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// identify finds the session keys that a hello names: who is meant is not known before the handshake.
func (d *directory) identify(group string, hash session.KeyHash) []sighting {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.byKey[keyName{group, hash}])
}

// parties splits the key of a member record into identities: of ours and of the member.
func (d *directory) parties(record string) (ours, peer identity.HoldingIdentity, ok bool) {
	viewer, _, _ := strings.Cut(record, "/")
	h, known := d.hosted.Get(viewer)
	r, found := d.members.Get(record)
	if !known || !found {
		return ours, peer, false
	}
	ours, err := h.Party.Identity()
	return ours, r.Info.Identity(), err == nil
}

// ourIdentity finds the hosted identity with a session key.
func (d *directory) ourIdentity(group string, hash session.KeyHash) (hosted.Identity, ourKey, bool) {
	for _, h := range d.hosted.All() {
		if h.Party.GroupID != group {
			continue
		}
		for _, k := range sessionKeys(h) {
			if session.HashKey(k.SPKI) == hash {
				return h, nameKey(h, k), true
			}
		}
	}
	return hosted.Identity{}, ourKey{}, false
}

func sessionKeys(h hosted.Identity) []hosted.SessionKey {
	return append([]hosted.SessionKey{h.Preferred}, h.Alternatives...)
}

func nameKey(h hosted.Identity, k hosted.SessionKey) ourKey {
	public, _ := x509.ParsePKIXPublicKey(k.SPKI)
	_, isRSA := public.(*rsa.PublicKey)
	return ourKey{tenant: h.ShortHash, id: k.KeyID, hash: session.HashKey(k.SPKI), rsa: isRSA}
}

// record finds what one identity of ours sees of a member, itself included.
func (d *directory) record(viewer, seen identity.ShortHash) *member.Record {
	r, found := d.members.Get(string(viewer) + "/" + string(seen))
	if !found {
		return nil
	}
	return &r
}

// policy returns the group policy of a virtual node.
func (d *directory) policy(short identity.ShortHash) (*grouppolicy.Policy, error) {
	v, found := d.vnodes.Get(string(short))
	if !found {
		return nil, fmt.Errorf("virtual node %s is not known", short)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, parsed := d.policies[v.CPI.FileChecksum]; parsed {
		return p, nil
	}
	info, found := d.packages.Get(v.CPI.FileChecksum)
	if !found {
		return nil, fmt.Errorf("the package %s of virtual node %s is not known", v.CPI.FileChecksum, short)
	}
	p, err := grouppolicy.Parse([]byte(info.GroupPolicy))
	if err != nil {
		return nil, fmt.Errorf("group policy of virtual node %s: %w", short, err)
	}
	d.policies[v.CPI.FileChecksum] = p
	return p, nil
}

// terms says how sessions of a virtual node's network are protected.
func (d *directory) terms(short identity.ShortHash) (modes []p2p.ProtocolMode, policy *grouppolicy.Policy, err error) {
	policy, err = d.policy(short)
	switch {
	case err != nil:
		return nil, nil, err
	case policy.P2P == nil:
		return nil, nil, fmt.Errorf("the group policy of virtual node %s says nothing of peers", short)
	case policy.P2P.SessionPKI != grouppolicy.NoPKI:
		return nil, nil, fmt.Errorf("the network asks for session certificates (sessionPki %s), which this release does not have; use NoPKI", policy.P2P.SessionPKI)
	case policy.P2P.ProtocolMode == grouppolicy.Authentication:
		return []p2p.ProtocolMode{p2p.AuthenticationOnly}, policy, nil
	}
	return []p2p.ProtocolMode{p2p.AuthenticatedEncryption}, policy, nil
}

// view says what can be done for messages from one to another (spec/p2p-wire.md 4.1).
func (d *directory) view(source, destination identity.HoldingIdentity) *view {
	no := func(s standing, format string, args ...any) *view {
		return &view{standing: s, reason: fmt.Sprintf(format, args...)}
	}
	if source.GroupID != destination.GroupID {
		return no(refused, "%s and %s are members of different networks", source, destination)
	}
	from, to := source.ShortHash(), destination.ShortHash()
	ours, found := d.hosted.Get(string(from))
	if !found {
		v := no(refused, "%s is not hosted here, or its network is not set up", source)
		v.grace = unhostedGrace
		return v
	}
	own, peer := d.record(from, from), d.record(from, to)
	switch {
	case own == nil:
		return no(unknown, "%s is not registered with its network", source)
	case peer == nil:
		return no(unknown, "%s is not in the member list of %s", destination, source)
	case !mayTalk(partyOf(own), partyOf(peer)):
		if !partyOf(own).present || !partyOf(peer).present {
			return no(unknown, "%s is %s and %s is %s", source, own.Info.Status(), destination, peer.Info.Status())
		}
		return no(refused, "%s is %s and %s is %s", source, own.Info.Status(), destination, peer.Info.Status())
	}
	if theirs, hostedHere := d.hosted.Get(string(to)); hostedHere && sharesKey(theirs, peer) {
		if v, _ := d.vnodes.Get(string(to)); !v.MayTakeSessions() {
			return no(unknown, "virtual node %s is not active", to)
		}
		return &view{standing: here, holder: to}
	}
	return d.remote(from, ours, peer, no)
}

// remote says how a member is reached that is not hosted here.
func (d *directory) remote(from identity.ShortHash, ours hosted.Identity, peer *member.Record, no func(standing, string, ...any) *view) *view {
	modes, policy, err := d.terms(from)
	if err != nil {
		return no(unknown, "%v", err)
	}
	v := &view{
		standing: open, group: peer.Info.GroupID(), serial: peer.Info.Serial(), platform: peer.Info.PlatformVersion(), modes: modes,
		ourKey: nameKey(ours, ours.Preferred), keys: publicKeys(peer), trust: trustOf(policy, peer),
	}
	all, err := peer.Info.SessionKeys()
	if err != nil || len(v.keys) == 0 {
		return no(unknown, "%s has no session key that this release can use", peer.Info.Name())
	}
	v.firstKey = all[0].Hash()
	endpoints, _ := peer.Info.Endpoints()
	for _, e := range endpoints {
		if e.ProtocolVersion == p2p.ProtocolVersion {
			v.endpoints = append(v.endpoints, e.URL)
		}
	}
	if len(v.endpoints) == 0 {
		return no(unknown, "%s has no endpoint of protocol version %d", peer.Info.Name(), p2p.ProtocolVersion)
	}
	return v
}

// sharesKey says whether the member whom a list shows is the one who is hosted here: the keys must agree.
func sharesKey(h hosted.Identity, r *member.Record) bool {
	published, err := r.Info.SessionKeys()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(sessionKeys(h), func(ours hosted.SessionKey) bool {
		return slices.ContainsFunc(published, func(k member.SessionKey) bool { return string(k.SPKI) == string(ours.SPKI) })
	})
}

// trustOf is what a member's gateway must lead to: the roots of the network and those of the member itself.
func trustOf(policy *grouppolicy.Policy, peer *member.Record) (trust topic.Trust) {
	for _, root := range policy.P2P.TLSTrustRoots {
		trust.Roots = append(trust.Roots, root.Raw)
	}
	for _, text := range peer.TLSTrustRoots {
		if block, _ := pem.Decode([]byte(text)); block != nil && block.Type == "CERTIFICATE" {
			trust.Roots = append(trust.Roots, block.Bytes)
		}
	}
	slices.SortFunc(trust.Roots, slices.Compare)
	trust.Roots = slices.CompactFunc(trust.Roots, func(a, b []byte) bool { return string(a) == string(b) })
	sum := sha256.New()
	for _, root := range trust.Roots {
		one := sha256.Sum256(root)
		sum.Write(one[:])
	}
	trust.ID = hex.EncodeToString(sum.Sum(nil)[:16])
	return trust
}

// hasKey says whether a member still has a session key.
func (d *directory) hasKey(ours, peer identity.ShortHash, name keyName) bool {
	record := string(ours) + "/" + string(peer)
	return slices.ContainsFunc(d.identify(name.group, name.hash), func(s sighting) bool { return s.record == record })
}

// accepts says whether a message of a peer to an identity of ours, in a session that the peer's key has made, may be taken
// now, and if not, why.
func (d *directory) accepts(ours, peer identity.ShortHash, key keyName) (reason string) {
	if _, found := d.hosted.Get(string(ours)); !found {
		return "not hosted"
	}
	own, record := d.record(ours, ours), d.record(ours, peer)
	if !mayTalk(partyOf(own), partyOf(record)) {
		return "not allowed"
	}
	if !d.hasKey(ours, peer, key) {
		return "session key replaced"
	}
	if v, found := d.vnodes.Get(string(ours)); !found || !v.MayTakeSessions() {
		return "not active"
	}
	return ""
}
