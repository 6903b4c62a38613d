package rbac

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/hawser-project/hawser/cluster/fault"
)

// Limits of spec/rest-rbac-config.md 2.2 to 2.4.
const (
	maxName        = 255
	minPassword    = 5
	MaxPassword    = 255 // longest password unless the cluster's configuration says less
	maxPropertyKey = 255
	maxProperty    = 255
)

var (
	loginNameForm = regexp.MustCompile(`\A[-._@a-zA-Z0-9]{3,255}\z`)
	fullNameForm  = regexp.MustCompile(`\A[-a-zA-Z0-9.@#' ]+\z`)
	uuidForm      = regexp.MustCompile(`\A[a-fA-F0-9]{8}(-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}\z`)
	virtualNode   = regexp.MustCompile(`\A[a-fA-F0-9]{12}\z`)
)

// NormalLogin is the form in which a login name is stored and looked up.
func NormalLogin(login string) string { return strings.ToLower(login) }

// CheckNewUser reports all faults of a user to be made in one error, whose details are "Error #1" and so on, as Corda's
// are. A password is optional: hasPassword says whether there is one.
func CheckNewUser(fullName, loginName, parentGroup string, hasPassword bool, password string) error {
	var faults []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	add(utf8.RuneCountInString(fullName) > maxName, "full name is longer than %d characters", maxName)
	add(strings.TrimSpace(fullName) == "", "full name is blank")
	add(fullName != "" && !fullNameForm.MatchString(fullName), "full name has characters other than a-zA-Z0-9.@-#' and space")
	add(!loginNameForm.MatchString(loginName), "login name must be 3 to 255 of the characters -._@a-zA-Z0-9")
	n := utf8.RuneCountInString(password)
	add(hasPassword && (n < minPassword || n > MaxPassword), "password must have %d to %d characters", minPassword, MaxPassword)
	add(parentGroup != "" && !uuidForm.MatchString(parentGroup), "parent group must be a UUID")
	if len(faults) == 0 {
		return nil
	}
	err := fault.New(fault.Invalid, "Invalid input data for user creation.")
	for i, f := range faults {
		err = err.With(fmt.Sprintf("Error #%d", i+1), f)
	}
	return err
}

// CheckNewPassword says whether a password may replace the present one. limit is the cluster's; 0 means MaxPassword.
// same says whether it equals the present one.
func CheckNewPassword(password string, limit int, same bool) error {
	if limit <= 0 || limit > MaxPassword {
		limit = MaxPassword
	}
	switch n := utf8.RuneCountInString(password); {
	case strings.TrimSpace(password) == "":
		return fault.New(fault.Invalid, "the new password is blank")
	case n > limit:
		return fault.New(fault.Invalid, "the new password has %d characters, at most %d are allowed", n, limit)
	case same:
		return fault.New(fault.Invalid, "the new password is the current one; choose another")
	}
	return nil
}

// CheckRoleName says whether a role or group may have the name.
func CheckRoleName(name string) error {
	if strings.TrimSpace(name) == "" || utf8.RuneCountInString(name) > maxName || !utf8.ValidString(name) {
		return fault.New(fault.Invalid, "a name must have 1 to %d characters and must not be blank", maxName)
	}
	return nil
}

// CheckProperty says whether a user may have the property.
func CheckProperty(key, value string) error {
	if strings.TrimSpace(key) == "" || utf8.RuneCountInString(key) > maxPropertyKey {
		return fault.New(fault.Invalid, "a property key must have 1 to %d characters and must not be blank", maxPropertyKey)
	}
	if utf8.RuneCountInString(value) > maxProperty {
		return fault.New(fault.Invalid, "the value of property %q has more than %d characters", key, maxProperty)
	}
	return nil
}

// Check says whether a permission may be created: known type, pattern that compiles, references in their forms.
func (p Permission) Check() error {
	if p.Type != Allow && p.Type != Deny {
		return fault.New(fault.Invalid, "permission type %q is neither ALLOW nor DENY", p.Type)
	}
	if strings.TrimSpace(p.Pattern) == "" {
		return fault.New(fault.Invalid, "the permission string is blank")
	}
	if p.GroupVisibility != "" && !uuidForm.MatchString(p.GroupVisibility) {
		return fault.New(fault.Invalid, "group visibility %q is not the id (UUID) of a group", p.GroupVisibility)
	}
	if p.VirtualNode != "" && !virtualNode.MatchString(p.VirtualNode) {
		return fault.New(fault.Invalid, "virtual node %q is not a short hash of 12 hexadecimal digits", p.VirtualNode)
	}
	_, err := compile(p.Pattern)
	return err
}

// LogOn is what a user with the right password may do.
type LogOn uint8

// Outcomes of MayLogOn.
const (
	LogOnRefused      LogOn = iota // disabled, or has no password
	LogOnPasswordOnly              // the password has expired: only MayChangeOwnPassword
	LogOnFull
)

// MayLogOn says what the user may do at a time (Unix milliseconds) once the password was found right. A disabled user
// may do nothing, not even change the password (spec 3.7 no. 8).
func (u User) MayLogOn(now int64) LogOn {
	switch {
	case !u.Enabled || !u.HasPassword:
		return LogOnRefused
	case u.PasswordExpiry != 0 && now >= u.PasswordExpiry:
		return LogOnPasswordOnly
	}
	return LogOnFull
}
