package vnode

import (
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
)

const group = "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"

func alice(t *testing.T, cpi CPI) (VirtualNode, error) {
	t.Helper()
	name, err := x500.Parse("O=Alice, L=London, C=GB")
	if err != nil {
		t.Fatal(err)
	}
	return New(identity.HoldingIdentity{Name: name, GroupID: group}, cpi, 5)
}

func cpi(version string) CPI {
	return CPI{Name: "demo", Version: version, SignerSummaryHash: "SHA-256:AA", FileChecksum: strings.Repeat(version, 64)[:64], GroupID: group}
}

func TestANewVirtualNodeIsActive(t *testing.T) {
	t.Parallel()
	r, err := alice(t, cpi("1"))
	if err != nil || r.ShortHash() != "D0F5EFA8EF2E" || !r.MayStartFlows() || !r.MayRunFlows() || !r.MayTakeSessions() {
		t.Fatalf("%+v, %v", r, err)
	}
	b, err := cbor.Marshal(r)
	var back VirtualNode
	if err != nil || cbor.Unmarshal(b, &back) != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("record round trip: %+v, %v", back, err)
	}
	other := cpi("1")
	other.GroupID = "another"
	if _, err := alice(t, other); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a package of another group: %v", err)
	}
	other.GroupID = NewGroup
	if _, err := alice(t, other); err != nil {
		t.Errorf("the package of an MGM: %v", err)
	}
	if _, err := New(identity.HoldingIdentity{}, other, 0); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no identity: %v", err)
	}
	if (VirtualNode{}).MayStartFlows() || (VirtualNode{}).Statuses() != [4]Status{Inactive, Inactive, Inactive, Inactive} {
		t.Error("a record without statuses runs")
	}
}

func TestMaintenanceStopsAllAndActiveStartsAll(t *testing.T) {
	t.Parallel()
	r, _ := alice(t, cpi("1"))
	m, err := r.Become(StateMaintenance)
	if err != nil || m.MayStartFlows() || m.MayRunFlows() || m.MayTakeSessions() || m.Vault != Inactive || m.Version != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	if again, err := m.Become(StateMaintenance); err != nil || again != m {
		t.Errorf("going where it is: %+v, %v", again, err)
	}
	m.Operation = "x"
	if _, err := m.Become(StateActive); fault.KindOf(err) != fault.Invalid {
		t.Errorf("active during an operation: %v", err)
	}
	m.Operation = ""
	if back, err := m.Become(StateActive); err != nil || !back.MayStartFlows() {
		t.Errorf("%+v, %v", back, err)
	}
	if s, err := ParseState("maintenance"); err != nil || s != StateMaintenance {
		t.Error(err)
	}
	if _, err := ParseState("INACTIVE"); fault.KindOf(err) != fault.Invalid || fault.DetailsOf(err)["newState"] == "" {
		t.Error(err)
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	active, _ := alice(t, cpi("1"))
	r, _ := active.Become(StateMaintenance)
	busy := r
	busy.Operation = "x"
	edit := func(f func(*CPI)) CPI { c := cpi("2"); f(&c); return c }
	for name, c := range map[string]struct {
		r     VirtualNode
		to    CPI
		force bool
		ok    bool
		kind  fault.Kind
	}{
		"to a later version":       {r, cpi("2"), false, true, 0},
		"while active":             {active, cpi("2"), false, false, fault.Invalid},
		"to the same":              {r, cpi("1"), false, false, fault.Conflict},
		"to another name":          {r, edit(func(c *CPI) { c.Name = "x" }), false, false, fault.Invalid},
		"to another signer":        {r, edit(func(c *CPI) { c.SignerSummaryHash = "x" }), false, false, fault.Invalid},
		"to another group":         {r, edit(func(c *CPI) { c.GroupID = "x" }), true, false, fault.Invalid},
		"during an operation":      {busy, cpi("2"), false, false, fault.Conflict},
		"by force in an operation": {busy, cpi("2"), true, true, 0},
	} {
		err := c.r.CanUpgrade(c.to, c.force)
		if (err == nil) != c.ok || err != nil && fault.KindOf(err) != c.kind {
			t.Errorf("%s: got %v", name, err)
		}
	}
	o, err := NewUpgrade(r, cpi("2"), 5)
	if err != nil || o.RequestID != "D0F5EFA8EF2E111111111111222222222222" || len(o.RequestID) != 36 {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := NewUpgrade(r, CPI{}, 5); err == nil {
		t.Error("a package without checksum")
	}
}

func TestAnOperationThatHasEndedStaysSo(t *testing.T) {
	t.Parallel()
	o := NewCreate("D0F5EFA8EF2E", 1).Advance(InProgress, "", "", 2)
	if o.ResourceID != "" || o.Status.Ended() {
		t.Errorf("%+v", o)
	}
	failed := o.Advance(Failed, StageValidation, "why", 3)
	if got := failed.Advance(Succeeded, "", "", 4); got != failed || got.Error != "why" {
		t.Errorf("%+v", got)
	}
	if got := o.Advance(Succeeded, "", "", 3); got.ResourceID != "D0F5EFA8EF2E" || got.UpdatedAt != 3 {
		t.Errorf("%+v", got)
	}
}
