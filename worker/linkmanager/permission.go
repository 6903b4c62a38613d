package linkmanager

import "github.com/hawser-project/hawser/cluster/member"

// party is what a member list says of one of two parties that talk.
type party struct {
	present bool // and neither pending nor of a status that we do not know
	active  bool
	mgm     bool
}

func partyOf(r *member.Record) party {
	if r == nil {
		return party{}
	}
	status := r.Info.Status()
	return party{present: status == member.Active || status == member.Suspended, active: status == member.Active, mgm: r.Info.IsMGM()}
}

// mayTalk is Corda's NetworkMessagingValidator (spec/p2p-wire.md 4.2): active members with each other, the MGM with
// anyone, those that are suspended, pending or unknown with the MGM only.
func mayTalk(a, b party) bool { return canMessage(a, b) && canMessage(b, a) }

func canMessage(p, other party) bool {
	switch {
	case p.present && p.mgm:
		return true
	case !p.present || !p.active:
		return other.present && other.mgm
	default:
		return other.present && other.active
	}
}
