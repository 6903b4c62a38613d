package rest

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/cluster/topic"
)

type hsmInput struct {
	Tenant   string `path:"tenantid"`
	Category string `path:"category"`
}

type hsmOutput struct {
	ID             string  `json:"id"`
	HSMID          string  `json:"hsmId"`
	Category       string  `json:"category"`
	MasterKeyAlias *string `json:"masterKeyAlias"`
	DeprecatedAt   int64   `json:"deprecatedAt"`
}

func hsmOf(a key.Assignment) hsmOutput {
	return hsmOutput{ID: a.ID, HSMID: "SOFT", Category: string(a.Category), MasterKeyAlias: orNull(a.MasterAlias)}
}

func (w *Worker) assignHSM(ctx context.Context, in hsmInput) (hsmOutput, error) {
	tenant, err := key.ParseTenant(in.Tenant)
	if err != nil {
		return hsmOutput{}, err
	}
	a, _, err := topic.AssignHSM.Do(ctx, w.Bus, string(tenant), commandID(ctx), topic.HSMRequest{Tenant: string(tenant), Category: in.Category})
	return hsmOf(a), err
}

func (w *Worker) getHSM(ctx context.Context, in hsmInput) (hsmOutput, error) {
	a, err := topic.HSM.Do(ctx, w.Bus, topic.HSMRequest{Tenant: in.Tenant, Category: in.Category})
	return hsmOf(a), err
}

type generateKeyInput struct {
	Tenant   string `path:"tenantid"`
	Alias    string `path:"alias"`
	Category string `path:"hsmcategory"`
	Scheme   string `path:"scheme"`
}

func (w *Worker) generateKey(ctx context.Context, in generateKeyInput) (idOutput, error) {
	tenant, err := key.ParseTenant(in.Tenant)
	if err != nil {
		return idOutput{}, err
	}
	info, _, err := topic.GenerateKey.Do(ctx, w.Bus, string(tenant), commandID(ctx), topic.NewKey{
		Tenant: string(tenant), Alias: in.Alias, Category: in.Category, Scheme: in.Scheme,
	})
	if fault.KindOf(err) == fault.Conflict {
		err = failure(http.StatusConflict, "KeyAlreadyExistsException", "cause", "KeyAlreadyExistsException", "reason", err.Error())
	}
	return idOutput{info.ID}, err
}

type schemesInput struct {
	Tenant   string `path:"tenantid"`
	Category string `path:"hsmcategory"`
}

func (w *Worker) listSchemes(_ context.Context, in schemesInput) ([]key.Scheme, error) {
	if _, err := key.ParseTenant(in.Tenant); err != nil {
		return nil, err
	}
	category, err := key.ParseCategory(in.Category)
	return key.SchemesFor(category), err
}

type keyInput struct {
	Tenant string `path:"tenantid"`
	KeyID  string `path:"keyid"`
}

// getKey returns the public key in PEM.
func (w *Worker) getKey(ctx context.Context, in keyInput) (text, error) {
	info, err := w.keyBy(ctx, in.Tenant, in.KeyID)
	return text(key.EncodePublicPEM(info.SPKI)), err
}

func (w *Worker) keyBy(ctx context.Context, tenantText, idText string) (topic.KeyInfo, error) {
	tenant, err := key.ParseTenant(tenantText)
	if err != nil {
		return topic.KeyInfo{}, err
	}
	id, err := key.ParseID(idText)
	if err != nil {
		return topic.KeyInfo{}, err
	}
	found, err := topic.Keys.Do(ctx, w.Bus, topic.KeyFilter{Tenant: string(tenant), IDs: []string{string(id)}})
	if err != nil {
		return topic.KeyInfo{}, err
	}
	if len(found) == 0 {
		return topic.KeyInfo{}, fault.New(fault.NotFound, "Key '%s' not found.", id)
	}
	return found[0], nil
}

type listKeysInput struct {
	Tenant        string   `path:"tenantid"`
	Skip          *int     `query:"skip"`
	Take          *int     `query:"take"`
	OrderBy       *string  `query:"orderby"`
	Category      *string  `query:"category"`
	Scheme        *string  `query:"schemecodename"`
	Alias         *string  `query:"alias"`
	MasterAlias   *string  `query:"masterkeyalias"`
	CreatedAfter  *string  `query:"createdafter"`
	CreatedBefore *string  `query:"createdbefore"`
	IDs           []string `query:"id"`
}

type keyOutput struct {
	KeyID          string  `json:"keyId"`
	Alias          string  `json:"alias"`
	Category       string  `json:"hsmCategory"`
	Scheme         string  `json:"scheme"`
	MasterKeyAlias *string `json:"masterKeyAlias"`
	Created        instant `json:"created"`
}

const defaultTake = 20

// listKeys lists a tenant's keys, by their ids. The id parameter overrides every other (spec 2.8).
func (w *Worker) listKeys(ctx context.Context, in listKeysInput) (ordered, error) {
	filter, err := in.filter()
	if err != nil {
		return nil, err
	}
	found, err := topic.Keys.Do(ctx, w.Bus, filter)
	if err != nil {
		return nil, err
	}
	if len(filter.IDs) == 0 {
		if found, err = in.narrow(found); err != nil {
			return nil, err
		}
	}
	keys := make(ordered, len(found))
	for i, k := range found {
		keys[i].key = k.ID
		keys[i].value = keyOutput{k.ID, k.Alias, k.Category, k.Scheme, orNull(k.MasterAlias), instant(k.CreatedAt)}
	}
	return keys, nil
}

func (in listKeysInput) filter() (topic.KeyFilter, error) {
	filter := topic.KeyFilter{Tenant: in.Tenant}
	if tenant, err := key.ParseTenant(in.Tenant); err == nil { // any other has no keys, and is no error
		filter.Tenant = string(tenant)
	}
	for _, text := range in.IDs {
		id, err := key.ParseID(text)
		if err != nil {
			return filter, err
		}
		filter.IDs = append(filter.IDs, string(id))
	}
	if len(filter.IDs) == 0 {
		filter.Category, filter.Scheme, filter.Alias = strings.ToUpper(orEmpty(in.Category)), orEmpty(in.Scheme), orEmpty(in.Alias)
	}
	return filter, nil
}

// narrow filters by what crypto does not, sorts, and cuts out the page.
func (in listKeysInput) narrow(keys []topic.KeyInfo) ([]topic.KeyInfo, error) {
	after, err := timeParameter("createdafter", in.CreatedAfter)
	if err != nil {
		return nil, err
	}
	before, err := timeParameter("createdbefore", in.CreatedBefore)
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(k topic.KeyInfo) bool {
		return in.MasterAlias != nil && *in.MasterAlias != k.MasterAlias || after != 0 && k.CreatedAt < after || before != 0 && k.CreatedAt > before
	})
	compare, err := keyOrder(orEmpty(in.OrderBy))
	if err != nil {
		return nil, err
	}
	if compare != nil {
		slices.SortStableFunc(keys, compare)
	}
	skip, take := 0, defaultTake
	if in.Skip != nil {
		skip = max(0, *in.Skip)
	}
	if in.Take != nil {
		take = max(0, *in.Take)
	}
	keys = keys[min(skip, len(keys)):]
	return keys[:min(take, len(keys))], nil
}

func timeParameter(name string, value *string) (int64, error) {
	if value == nil {
		return 0, nil
	}
	t, err := time.Parse(time.RFC3339Nano, *value)
	if err != nil {
		return 0, unparsable(name, "a time such as 2025-01-31T12:00:00Z is wanted")
	}
	return t.UnixMilli(), nil
}

// keyOrder reads an orderby parameter, in any case, with _DESC for the reverse.
func keyOrder(orderBy string) (func(a, b topic.KeyInfo) int, error) {
	name, reverse := strings.CutSuffix(strings.ToUpper(orderBy), "_DESC")
	var compare func(a, b topic.KeyInfo) int
	by := func(of func(topic.KeyInfo) string) {
		compare = func(a, b topic.KeyInfo) int { return cmp.Compare(of(a), of(b)) }
	}
	switch name {
	case "", "NONE":
		return nil, nil
	case "ID":
		by(func(k topic.KeyInfo) string { return k.ID })
	case "ALIAS":
		by(func(k topic.KeyInfo) string { return k.Alias })
	case "CATEGORY":
		by(func(k topic.KeyInfo) string { return k.Category })
	case "SCHEME_CODE_NAME":
		by(func(k topic.KeyInfo) string { return k.Scheme })
	case "MASTER_KEY_ALIAS":
		by(func(k topic.KeyInfo) string { return k.MasterAlias })
	case "TIMESTAMP":
		compare = func(a, b topic.KeyInfo) int { return cmp.Compare(a.CreatedAt, b.CreatedAt) }
	default:
		return nil, unparsable("orderby", "the order is one of NONE, ID, TIMESTAMP, CATEGORY, SCHEME_CODE_NAME, ALIAS, MASTER_KEY_ALIAS, also with _DESC")
	}
	if reverse {
		forward := compare
		compare = func(a, b topic.KeyInfo) int { return forward(b, a) }
	}
	return compare, nil
}
