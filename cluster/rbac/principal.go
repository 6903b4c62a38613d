package rbac

// Principal is what a rest worker needs to know of a user to let it in and to decide: the user, and its permissions from
// all roles and groups (Effective). The admin worker publishes one for each user.
type Principal struct {
	User        User         `cbor:"1,keyasint"`
	Permissions []Permission `cbor:"2,keyasint,omitempty"`
}
