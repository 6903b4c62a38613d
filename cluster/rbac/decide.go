package rbac

import (
	"regexp"
	"strings"

	"github.com/hawser-project/hawser/cluster/fault"
)

// maxPattern is the width of Corda's perm_string column (spec 3.1).
const maxPattern = 1024

// Decision is the answer to "may this be done", with what decided it.
type Decision struct {
	Allowed bool
	// By is the id of the permission that decided, empty when none matched.
	By string
	// Reason is for the audit record and the log. Callers outside get no more than "not authorised".
	Reason string
}

// Rules are permissions ready for matching. They are immutable and safe for concurrent use.
type Rules struct {
	deny, allow []rule
}

type rule struct {
	Permission
	re *regexp.Regexp // nil if the pattern does not compile
}

// Compile prepares permissions. One whose pattern does not compile (it can only come from an import:
// Permission.Check refuses it) never allows, and forbids everything if it is a DENY (spec 3.2); Unusable lists those.
func Compile(perms []Permission) *Rules {
	rules := &Rules{}
	for _, p := range perms {
		re, err := compile(p.Pattern)
		if err != nil {
			re = nil
		}
		if p.Type == Allow {
			rules.allow = append(rules.allow, rule{p, re})
		} else { // an unknown type must not widen anything
			rules.deny = append(rules.deny, rule{p, re})
		}
	}
	return rules
}

// Unusable returns the permissions whose patterns do not compile, for an alarm.
func (r *Rules) Unusable() []Permission {
	var bad []Permission
	for _, list := range [][]rule{r.deny, r.allow} {
		for _, x := range list {
			if x.re == nil {
				bad = append(bad, x.Permission)
			}
		}
	}
	return bad
}

// Decide answers for one request. ALLOW counts if it matches METHOD:path or METHOD:path?query as requested; DENY counts
// if it matches either in any version of the API; deny wins; nothing matching is a refusal (DESIGN.md 6).
func (r *Rules) Decide(req Request) Decision {
	for _, x := range r.deny {
		if x.re == nil {
			return Decision{By: x.ID, Reason: "a DENY permission has a pattern that cannot be matched: " + x.Pattern}
		}
		if x.matches(req) {
			return Decision{By: x.ID, Reason: "denied by " + x.Pattern}
		}
	}
	for _, x := range r.allow {
		if x.re != nil && x.matches(req) {
			return Decision{Allowed: true, By: x.ID, Reason: "allowed by " + x.Pattern}
		}
	}
	return Decision{Reason: "no permission matches " + req.String()}
}

// Decide is Compile and Rules.Decide for a caller that decides once.
func Decide(perms []Permission, req Request) Decision { return Compile(perms).Decide(req) }

// matches says whether the permission is about the request. The permission's virtual node limits the starting of flows
// and nothing else, since the paths of REST requests name their virtual node themselves.
func (x rule) matches(req Request) bool {
	if req.flowClass != "" && x.VirtualNode != "" && !strings.EqualFold(x.VirtualNode, req.virtualNode) {
		return false
	}
	t := Allow
	if x.Type != Allow {
		t = Deny
	}
	return req.subjects(t, x.re.MatchString)
}

// MayChangeOwnPassword says whether the route is the one that every authenticated user may call, also one whose
// password has expired: exactly this method on exactly this route template. Corda goes by the end of the request string,
// query included, which opens every user operation (spec 3.7 no. 1).
func MayChangeOwnPassword(method, routeTemplate string) bool {
	return method == "POST" && routeTemplate == "/user/selfpassword"
}

// compile makes a pattern match whole strings, in either case, as Corda does.
func compile(pattern string) (*regexp.Regexp, error) {
	if pattern == "" || len(pattern) > maxPattern {
		return nil, fault.New(fault.Invalid, "a permission string has 1 to %d octets, this one has %d", maxPattern, len(pattern))
	}
	// Alone first: "a)|(b" would otherwise close our group and escape the anchors.
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, fault.New(fault.Invalid, "permission string %q is not a regular expression that RE2 knows "+
			"(look-around, back-references and possessive quantifiers are not): %w", pattern, err)
	}
	if err := refuseJavaClasses(pattern); err != nil {
		return nil, err
	}
	re, err := regexp.Compile(`\A(?is:` + pattern + `)\z`)
	if err != nil {
		return nil, fault.New(fault.Invalid, "permission string %q can't be anchored; close every group and quotation: %w", pattern, err)
	}
	return re, nil
}

// refuseJavaClasses finds what Java reads as union or intersection inside a character class and RE2 as plain
// characters: "[a-z&&[^b]]" compiles in both and means different things.
func refuseJavaClasses(pattern string) error {
	inClass, first := false, 0
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch {
		case c == '\\':
			i++
			if !inClass && i < len(pattern) && pattern[i] == 'Q' { // quoted up to \E
				end := strings.Index(pattern[i:], `\E`)
				if end < 0 {
					return nil
				}
				i += end + 1
			}
		case !inClass && c == '[':
			inClass, first = true, i+1
			if first < len(pattern) && pattern[first] == '^' {
				first++
				i++
			}
		case inClass && c == ']' && i != first:
			inClass = false
		case inClass && (c == '[' || strings.HasPrefix(pattern[i:], "&&")):
			return fault.New(fault.Invalid, "permission string %q nests or intersects character classes at octet %d; "+
				"write one plain class, with \\[ or \\& for the characters themselves", pattern, i+1)
		}
	}
	return nil
}
