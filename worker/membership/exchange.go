package membership

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/hosted"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cluster/topic"
)

// listMembers returns the members that a virtual node sees, itself among them, in order of short hash.
func (w *Worker) listMembers(ctx context.Context, hash string) (list []member.Record, err error) {
	if _, _, _, err := w.node(ctx, hash); err != nil {
		return nil, err
	}
	err = w.Bus.View(ctx, func(r bus.Reader) error {
		entries, err := members.List(r, hash, "")
		list = make([]member.Record, 0, len(entries))
		for _, e := range entries {
			list = append(list, e.Value)
		}
		return err
	})
	return list, err
}

// exportMember makes the signed file by which other clusters get to know a virtual node.
func (w *Worker) exportMember(ctx context.Context, hash string) ([]byte, error) {
	_, _, policy, err := w.node(ctx, hash)
	if err != nil {
		return nil, err
	}
	var own hosted.Identity
	var record member.Record
	var found bool
	err = w.Bus.View(ctx, func(r bus.Reader) (err error) {
		if own, _, err = hostedIdentities.Get(r, hash, ""); err != nil {
			return err
		}
		record, found, err = members.Get(r, hash, hash)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fault.New(fault.Conflict, "virtual node %s is not registered yet: POST /membership/%s first", hash, hash)
	}
	roots, err := anchors(own, policy.P2P.TLSTrustRoots)
	if err != nil {
		return nil, err
	}
	return member.Sign(record.Info.Member, record.Info.Serial(), record.Info.Modified(), roots, func(octets []byte) ([]byte, error) {
		return topic.SignMember.Do(ctx, w.Bus, topic.SignRequest{
			Tenant: hash, KeyID: own.Preferred.KeyID, Spec: key.SignatureSpec(specOf(own.Preferred.SPKI)), Data: octets,
		})
	})
}

// anchors are the certificates that a peer must trust to reach our endpoint: the group policy's roots that our chain leads
// to, or the end of the chain where it has its root in it.
func anchors(own hosted.Identity, roots []*x509.Certificate) ([]string, error) {
	last := trustRoots(own)
	if len(last) == 0 {
		return nil, fault.New(fault.Internal, "virtual node %s has no TLS certificate", own.ShortHash)
	}
	block, _ := pem.Decode([]byte(last[0])) // written by tlsChain
	end, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	for _, root := range roots {
		if end.CheckSignatureFrom(root) == nil {
			return []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))}, nil
		}
	}
	return last, nil
}

// importMember takes a member of another cluster into the list of a virtual node.
func (w *Worker) importMember(ctx context.Context, tx *bus.Tx, hash string, req topic.MemberImport) (member.Record, error) {
	node, _, policy, err := w.node(ctx, hash)
	if err != nil {
		return member.Record{}, err
	}
	file, err := member.ParseFile(req.File)
	if err != nil {
		return member.Record{}, err
	}
	info := file.Info()
	if info.Identity() == node.Identity {
		return member.Record{}, fault.New(fault.Invalid, "the file is of %s itself; import it in the other members' clusters", node.Identity.Name)
	}
	if policy.Network == nil {
		return member.Record{}, fault.New(fault.NotImplemented, "member files are for static networks; in this one the manager tells who is a member")
	}
	seen := string(info.Identity().ShortHash())
	present, known, err := members.Get(tx, hash, seen)
	if err != nil {
		return member.Record{}, err
	}
	var current *member.Record
	if known {
		current = &present
	}
	record, err := member.Import(current, file, req.Fingerprint, req.Replace, node.Identity.GroupID, tx.Now())
	if err != nil {
		return member.Record{}, err
	}
	if err := ownKeys(tx, hash, seen, record); err != nil {
		return member.Record{}, err
	}
	put(tx, hash, seen, record)
	return record, nil
}

// ownKeys refuses a session key that another member on the list has. A file proves the first of its keys only, and peers are
// found by their keys: who names another's as a second one of its own would have that member's sessions taken for its own.
func ownKeys(tx *bus.Tx, viewer, seen string, record member.Record) error {
	keys, err := record.Info.SessionKeys()
	if err != nil {
		return err
	}
	list, err := members.List(tx, viewer, "")
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Row == seen {
			continue
		}
		theirs, err := e.Value.Info.SessionKeys()
		if err != nil {
			return err
		}
		for _, k := range theirs {
			if slices.ContainsFunc(keys, func(own member.SessionKey) bool { return own.Hash() == k.Hash() }) {
				return fault.New(fault.Conflict, "the member file of %s names a session key that is %s's; no two members may have the same", record.Info.Name(), e.Value.Info.Name())
			}
		}
	}
	return nil
}
