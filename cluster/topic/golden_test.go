package topic_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cert"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/hosted"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/corda/x500"
	"github.com/hawser-project/hawser/internal/secret"
)

var updateRecords = flag.Bool("update-records", false, "write the golden records of this release")

// release names the golden records that this tree writes. A new release gets a new folder; older ones stay for ever.
const release = "v0"

// records are the types that are on topics or in state, which a later release must be able to read.
var records = []any{
	flow.Input{}, flow.Start{}, flow.Status{}, flow.SessionEvent{}, message.Outbound{}, message.Inbound{}, message.Failure{},
	rbac.Principal{}, rbac.User{}, rbac.Credential{}, rbac.Group{}, rbac.Role{}, rbac.Permission{}, rbac.Change{},
	cpi.Info{}, vnode.VirtualNode{}, vnode.Operation{}, hosted.Identity{}, member.Record{}, cert.Chain{},
	key.Record{}, key.ManagedKey{}, key.Assignment{}, topic.UploadStatus{}, topic.Upload{}, topic.RegistrationStatus{},
}

// TestRecordsOfEveryReleaseAreRead decodes the golden records of every release. Those of the present one are also written
// again, octet for octet: a field whose number or type has changed shows here.
func TestRecordsOfEveryReleaseAreRead(t *testing.T) {
	t.Parallel()
	releases, err := filepath.Glob("testdata/records/*")
	if err != nil || len(releases) == 0 && !*updateRecords {
		t.Fatalf("no golden records: %v", err)
	}
	for _, record := range records {
		name := fmt.Sprintf("%T.cbor", record)
		want := reflect.New(reflect.TypeOf(record))
		fill(t, want.Elem(), new(int))
		octets, err := bus.Encode(want.Elem().Interface())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if *updateRecords {
			write(t, filepath.Join("testdata/records", release, name), octets)
		}
		for _, dir := range releases {
			golden, err := os.ReadFile(filepath.Join(dir, name))
			if os.IsNotExist(err) && filepath.Base(dir) != release {
				continue // the type is younger
			}
			if err != nil {
				t.Errorf("%v: run the test with -update-records", err)
				continue
			}
			got := reflect.New(reflect.TypeOf(record))
			if err := bus.Decode(golden, got.Interface()); err != nil {
				t.Errorf("%s of %s: %v", name, dir, err)
			}
			if filepath.Base(dir) == release && string(octets) != string(golden) {
				t.Errorf("%s is written otherwise than before:\ngot  %x\nwant %x", name, octets, golden)
			}
		}
	}
}

// TestFieldNumbersAreGivenAndUsedOnce walks the types of the records: each field has a number of its own.
func TestFieldNumbersAreGivenAndUsedOnce(t *testing.T) {
	t.Parallel()
	for _, record := range records {
		checkNumbers(t, reflect.TypeOf(record), make(map[reflect.Type]bool))
	}
}

func checkNumbers(t *testing.T, of reflect.Type, seen map[reflect.Type]bool) {
	t.Helper()
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct || seen[of] || of == reflect.TypeFor[x500.Name]() || of == reflect.TypeFor[secret.Secret]() {
		return
	}
	seen[of] = true
	used := make(map[string]string)
	for f := range of.Fields() {
		number, _, _ := strings.Cut(f.Tag.Get("cbor"), ",")
		if number == "" || !strings.Contains(f.Tag.Get("cbor"), "keyasint") {
			t.Errorf("%v.%s has no number", of, f.Name)
		} else if other, twice := used[number]; twice {
			t.Errorf("%v: %s and %s have the number %s", of, other, f.Name, number)
		}
		used[number] = f.Name
		checkNumbers(t, f.Type, seen)
	}
}

// fill gives every field a value of its own, so that none is left out of the octets.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Type() {
	case reflect.TypeFor[x500.Name]():
		name, err := x500.Parse("CN=Node 1, O=Alice, L=London, C=GB")
		if err != nil {
			t.Fatal(err)
		}
		v.Set(reflect.ValueOf(name))
		return
	case reflect.TypeFor[secret.Secret]():
		v.Set(reflect.ValueOf(secret.FromString(fmt.Sprintf("secret %d", *n))))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(t, v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"name": fmt.Sprint(*n)}))
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 256))
	default:
		t.Fatalf("a record has a field of kind %v", v.Kind())
	}
}

func write(t *testing.T, path string, octets []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, octets, 0o644); err != nil {
		t.Fatal(err)
	}
}
