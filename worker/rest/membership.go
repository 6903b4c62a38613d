package rest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/identity"
)

type setUpNetworkInput struct {
	Holder identity.ShortHash `path:"holdingidentityshorthash"`
	Body   struct {
		TLSAlias    string            `json:"p2pTlsCertificateChainAlias"`
		ClusterTLS  *bool             `json:"useClusterLevelTlsCertificateAndKey"`
		SessionKeys []sessionKeyInput `json:"sessionKeysAndCertificates"`
	} `body:"request"`
}

type sessionKeyInput struct {
	KeyID            string  `json:"sessionKeyId"`
	CertificateAlias *string `json:"sessionCertificateChainAlias"`
	Preferred        bool    `json:"preferred"`
}

func (w *Worker) setUpNetwork(ctx context.Context, in setUpNetworkInput) (none, error) {
	asked := topic.NetworkSetup{TLSAlias: in.Body.TLSAlias, ClusterTLS: in.Body.ClusterTLS == nil || *in.Body.ClusterTLS}
	for _, k := range in.Body.SessionKeys {
		asked.SessionKeys = append(asked.SessionKeys, topic.SessionKeyRef{KeyID: k.KeyID, CertificateAlias: orEmpty(k.CertificateAlias), Preferred: k.Preferred})
	}
	_, _, err := topic.SetUpNetwork.Do(ctx, w.Bus, in.Holder.String(), commandID(ctx), asked)
	return none{}, err
}

type registerInput struct {
	Holder identity.ShortHash `path:"holdingidentityshorthash"`
	Body   struct {
		Context map[string]string `json:"context"`
	} `body:"memberRegistrationRequest"`
}

type submitted struct {
	Data map[string]string `json:"data"`
}

// protocolVersionKey is what the status of a registration adds to the context that was submitted (spec 2.10).
const protocolVersionKey = "registrationProtocolVersion"

type registeredOutput struct {
	ID           string    `json:"registrationId"`
	Sent         *instant  `json:"registrationSent"`
	Status       string    `json:"registrationStatus"`
	Submitted    submitted `json:"memberInfoSubmitted"`
	Reason       string    `json:"reason"`
	AvailableNow bool      `json:"availableNow"`
}

// register registers a virtual node. In a static network this is done at once; clients read the outcome with GET, as
// they do where a manager takes its time.
func (w *Worker) register(ctx context.Context, in registerInput) (registeredOutput, error) {
	status, _, err := topic.Register.Do(ctx, w.Bus, in.Holder.String(), commandID(ctx), topic.Registration{ID: uuid.NewString(), Context: in.Body.Context})
	return registeredOutput{
		ID: status.ID, Sent: optional(status.SentAt), Status: "SUBMITTED", Submitted: submitted{in.Body.Context},
		Reason: "Submitting registration request was successful.", AvailableNow: true,
	}, err
}

type registrationOutput struct {
	ID        string    `json:"registrationId"`
	Sent      *instant  `json:"registrationSent"`
	Updated   *instant  `json:"registrationUpdated"`
	Status    string    `json:"registrationStatus"`
	Submitted submitted `json:"memberInfoSubmitted"`
	Reason    *string   `json:"reason"`
	Serial    *int64    `json:"serial"`
}

func registrationOf(r topic.RegistrationStatus) registrationOutput {
	data := map[string]string{protocolVersionKey: "1"}
	for k, v := range r.Context {
		data[k] = v
	}
	out := registrationOutput{ID: r.ID, Sent: optional(r.SentAt), Updated: optional(r.UpdatedAt), Status: r.Status, Submitted: submitted{data}, Reason: orNull(r.Reason)}
	if r.Serial != 0 {
		out.Serial = &r.Serial
	}
	return out
}

func (w *Worker) listRegistrations(ctx context.Context, in holderInput) ([]registrationOutput, error) {
	found, err := topic.Registrations.Do(ctx, w.Bus, topic.RegistrationRef{Holder: in.Holder.String()})
	return list(found, registrationOf), err
}

type registrationInput struct {
	Holder identity.ShortHash `path:"holdingidentityshorthash"`
	ID     string             `path:"registrationrequestid"`
}

func (w *Worker) getRegistration(ctx context.Context, in registrationInput) (registrationOutput, error) {
	found, err := topic.Registrations.Do(ctx, w.Bus, topic.RegistrationRef{Holder: in.Holder.String(), ID: in.ID})
	if err != nil {
		return registrationOutput{}, err
	}
	if len(found) != 1 {
		return registrationOutput{}, fault.New(fault.NotFound, "Registration request '%s' not found.", in.ID)
	}
	return registrationOf(found[0]), nil
}

type listMembersInput struct {
	Holder   identity.ShortHash `path:"holdingidentityshorthash"`
	CN       *string            `query:"cn"`
	O        *string            `query:"o"`
	OU       *string            `query:"ou"`
	L        *string            `query:"l"`
	ST       *string            `query:"st"`
	C        *string            `query:"c"`
	Statuses []string           `query:"statuses"`
}

type memberOutput struct {
	Member map[string]string `json:"memberContext"`
	MGM    map[string]string `json:"mgmContext"`
}

type membersOutput struct {
	Members []memberOutput `json:"members"`
}

// listMembers lists who a virtual node sees: active members, and itself.
func (w *Worker) listMembers(ctx context.Context, in listMembersInput) (membersOutput, error) {
	statuses, err := in.statuses()
	if err != nil {
		return membersOutput{}, err
	}
	records, err := topic.ListMembers.Do(ctx, w.Bus, in.Holder.String())
	out := membersOutput{Members: []memberOutput{}}
	for _, r := range records {
		own := r.Info.Identity().ShortHash() == in.Holder
		visible := own || r.Info.Status() == member.Active
		if visible && slices.Contains(statuses, r.Info.Status()) && in.matches(r.Info) {
			out.Members = append(out.Members, memberOutput{contextOf(r.Info.Member), contextOf(r.Info.MGM)})
		}
	}
	return out, err
}

func (in listMembersInput) statuses() ([]member.Status, error) {
	if len(in.Statuses) == 0 {
		return []member.Status{member.Active}, nil
	}
	var all []member.Status
	for _, text := range in.Statuses {
		switch s := member.Status(strings.ToUpper(text)); s {
		case member.Active, member.Suspended, member.Pending:
			all = append(all, s)
		default:
			return nil, fault.New(fault.NotFound, "member status %.40q is not one of ACTIVE, SUSPENDED, PENDING", text) // 404, as Corda
		}
	}
	return all, nil
}

func (in listMembersInput) matches(info member.Info) bool {
	name := info.Name()
	for _, f := range []struct {
		wanted *string
		value  string
	}{
		{in.CN, name.CommonName()}, {in.O, name.Organization()}, {in.OU, name.OrganizationUnit()},
		{in.L, name.Locality()}, {in.ST, name.State()}, {in.C, name.Country()},
	} {
		if f.wanted != nil && !strings.EqualFold(*f.wanted, f.value) {
			return false
		}
	}
	return true
}

func contextOf(c member.Context) map[string]string {
	m := make(map[string]string, len(c))
	for _, e := range c {
		m[e.Key] = e.Value
	}
	return m
}

type memberFileInput struct {
	Holder identity.ShortHash `path:"shortHash"`
}

// exportMember returns the signed file by which other clusters of a static network get to know a virtual node.
func (w *Worker) exportMember(ctx context.Context, in memberFileInput) (text, error) {
	file, err := topic.ExportMember.Do(ctx, w.Bus, in.Holder.String())
	return text(file), err
}

type importMemberInput struct {
	Holder      identity.ShortHash `path:"shortHash"`
	Fingerprint *string            `query:"fingerprint"`
	Header      string             `header:"Hawser-Fingerprint"`
	Replace     *bool              `query:"replace"`
	File        rawBody
}

type importedOutput struct {
	ShortHash   string  `json:"shortHash"`
	Name        string  `json:"x500Name"`
	GroupID     string  `json:"groupId"`
	Serial      int64   `json:"serial"`
	Fingerprint string  `json:"fingerprint"`
	ImportedAt  instant `json:"importedTimestamp"`
}

// importMember takes the file of another cluster's member. Without the fingerprint of its key nothing is taken, and the
// error shows it in its details, for a person to compare.
func (w *Worker) importMember(ctx context.Context, in importMemberInput) (importedOutput, error) {
	fingerprint := in.Header
	if in.Fingerprint != nil {
		fingerprint = *in.Fingerprint
	}
	r, _, err := topic.ImportMember.Do(ctx, w.Bus, in.Holder.String(), commandID(ctx), topic.MemberImport{
		File: in.File, Fingerprint: fingerprint, Replace: in.Replace != nil && *in.Replace,
	})
	if err != nil {
		return importedOutput{}, err
	}
	id := r.Info.Identity()
	at := r.ImportedAt
	if at == 0 {
		at = time.Now().UnixMilli()
	}
	return importedOutput{id.ShortHash().String(), id.Name.String(), id.GroupID, r.Info.Serial(), r.Fingerprint, instant(at)}, nil
}
