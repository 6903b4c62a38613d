package grouppolicy

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/x500"
)

// checker gathers faults.
type checker struct {
	faults []pathFault
	more   int
}

type pathFault struct{ path, text string }

func (c *checker) add(path, format string, args ...any) {
	if len(c.faults) >= maxFaults {
		c.more++
		return
	}
	c.faults = append(c.faults, pathFault{path, fmt.Sprintf(format, args...)})
}

func (c *checker) err() error {
	if len(c.faults) == 0 {
		return nil
	}
	lines := make([]string, len(c.faults))
	for i, f := range c.faults {
		lines[i] = f.path + " " + f.text
	}
	if c.more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", c.more))
	}
	err := fault.New(fault.Invalid, "the group policy is not valid: %s", strings.Join(lines, "; "))
	for _, f := range c.faults {
		err = err.With(f.path, f.text)
	}
	return err
}

// object is a JSON object at a path. The zero fields of an object that is missing make its readers silent: that it is
// missing was reported once.
type object struct {
	c      *checker
	path   string
	fields map[string]any
}

func (o object) fault(name, format string, args ...any) {
	o.c.add(o.path+"."+name, format, args...)
}

// get finds a field. A missing one is a fault if it is required and its parent is there.
func (o object) get(name string, required bool) (any, bool) {
	if o.fields == nil {
		return nil, false
	}
	v, there := o.fields[name]
	if !there && required {
		o.fault(name, "is missing")
	}
	return v, there
}

func (o object) names() []string {
	names := make([]string, 0, len(o.fields))
	for n := range o.fields {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// text reads a required text, which must not be blank.
func (o object) text(name string) string {
	v, there := o.get(name, true)
	if !there {
		return ""
	}
	s, ok := v.(string)
	if !ok || strings.TrimSpace(s) == "" {
		o.fault(name, "must be a text that is not blank")
		return ""
	}
	return s
}

func (o object) number(name string, required bool) (int64, bool) {
	v, there := o.get(name, required)
	if !there {
		return 0, false
	}
	n, ok := v.(json.Number)
	i, err := strconv.ParseInt(string(n), 10, 64)
	if !ok || err != nil {
		o.fault(name, "must be a whole number")
		return 0, false
	}
	return i, true
}

func (o object) object(name string, required bool) object {
	v, there := o.get(name, required)
	fields, ok := v.(map[string]any)
	if there && !ok {
		o.fault(name, "must be an object")
	}
	return object{o.c, o.path + "." + name, fields}
}

func (o object) objects(name string, most int) []object {
	v, there := o.get(name, true)
	list, ok := v.([]any)
	if there && (!ok || len(list) > most) {
		o.fault(name, "must be a list of at most %d", most)
		return nil
	}
	all := make([]object, 0, len(list))
	for i, item := range list {
		path := fmt.Sprintf("%s[%d]", name, i)
		fields, ok := item.(map[string]any)
		if !ok {
			o.fault(path, "must be an object")
			continue
		}
		all = append(all, object{o.c, o.path + "." + path, fields})
	}
	return all
}

func (o object) textMap(name string, required bool) map[string]string {
	inner := o.object(name, required)
	if inner.fields == nil {
		return nil
	}
	m := make(map[string]string, len(inner.fields))
	for _, n := range inner.names() {
		s, ok := inner.fields[n].(string)
		if !ok {
			inner.fault(n, "must be a text")
		}
		m[n] = s
	}
	return m
}

// choice reads a required value from a list. Values that Corda knows and no link manager implements are named apart.
func (o object) choice(name string, unimplemented []string, allowed ...string) string {
	v, there := o.get(name, true)
	if !there {
		return ""
	}
	s, ok := v.(string)
	switch {
	case ok && slices.Contains(allowed, s):
		return s
	case ok && slices.Contains(unimplemented, s):
		o.fault(name, "is %q, which is not supported; use %s", s, strings.Join(allowed, " or "))
	default:
		o.fault(name, "must be %s, spelled so", strings.Join(allowed, " or "))
	}
	return ""
}

func (o object) member(name string, required bool) x500.Name {
	if _, there := o.get(name, required); !there {
		return x500.Name{}
	}
	text := o.text(name)
	if text == "" {
		return x500.Name{}
	}
	n, err := x500.Parse(text)
	if err != nil {
		o.fault(name, "is %q: %v", clip(text), err)
	}
	return n
}

// certificates reads a list of PEM certificates.
func (o object) certificates(name string, required bool) []*x509.Certificate {
	v, there := o.get(name, required)
	if !there {
		return nil
	}
	list, ok := v.([]any)
	if !ok || len(list) > maxCerts || required && len(list) == 0 {
		o.fault(name, "must be a list of 1 to %d certificates in PEM", maxCerts)
		return nil
	}
	var certs []*x509.Certificate
	for i, item := range list {
		text, _ := item.(string)
		c, err := parseCertificate(text)
		if err != nil {
			o.fault(fmt.Sprintf("%s[%d]", name, i), "%v", err)
			continue
		}
		certs = append(certs, c)
	}
	return certs
}

func parseCertificate(text string) (*x509.Certificate, error) {
	text = strings.TrimSpace(text)
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || !strings.HasPrefix(text, "-----BEGIN") || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("must be one certificate in PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("is not an X.509 certificate: %w", err)
	}
	return c, nil
}

// clip shortens what an error quotes.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
