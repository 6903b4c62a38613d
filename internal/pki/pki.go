// Package pki has the certificates by which the processes of one cluster know each other: an authority that is kept
// offline, what a certificate says, and the TLS configuration of both sides. It has nothing to do with the certificates
// that clusters show each other, nor with the REST API's.
//
// A certificate names its process in URIs, and those are what authorises; names and addresses of hosts are in it for
// people's tools only:
//
//	hawser://<cluster>/role/<role>       one for each role that the process may have
//	hawser://<cluster>/instance/<name>   one
package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Operator is the role of people. A certificate with no other role is no worker's.
const Operator = "operator"

const (
	scheme       = "hawser"
	rolePath     = "/role/"
	instancePath = "/instance/"
	authority    = "/authority"
)

// Names of clusters, roles and instances stand in URIs as they are.
var (
	clusterName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	instanceName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$`)
	roleName     = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
)

// Identity is what a certificate says of a process or person.
type Identity struct {
	Cluster  string
	Instance string
	Roles    []string
	NotAfter time.Time
}

// Has says whether the identity has a role.
func (i Identity) Has(role string) bool { return slices.Contains(i.Roles, role) }

// IsWorker says whether it is a worker process's, and not a person's.
func (i Identity) IsWorker() bool {
	return slices.ContainsFunc(i.Roles, func(r string) bool { return r != Operator })
}

func (i Identity) String() string {
	return fmt.Sprintf("%s of cluster %s (%s)", i.Instance, i.Cluster, strings.Join(i.Roles, ", "))
}

// FromCertificate reads what a certificate says. It does not say whether that is true: the chain has to be verified.
// URIs that it doesn't know are passed over; they grant nothing.
func FromCertificate(c *x509.Certificate) (Identity, error) {
	id := Identity{NotAfter: c.NotAfter}
	for _, u := range c.URIs {
		if u.Scheme != scheme {
			continue
		}
		if id.Cluster == "" {
			id.Cluster = u.Host
		}
		if u.Host != id.Cluster || !clusterName.MatchString(u.Host) || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.RawPath != "" {
			return Identity{}, fmt.Errorf("the certificate has the URI %s, which is not one of a single cluster", u)
		}
		if role, ok := strings.CutPrefix(u.Path, rolePath); ok {
			if !roleName.MatchString(role) {
				return Identity{}, fmt.Errorf("the certificate names the role %q", role)
			}
			id.Roles = append(id.Roles, role)
		}
		if name, ok := strings.CutPrefix(u.Path, instancePath); ok {
			if id.Instance != "" || !instanceName.MatchString(name) {
				return Identity{}, fmt.Errorf("the certificate names the instance %q, or more than one", name)
			}
			id.Instance = name
		}
	}
	if id.Cluster == "" || id.Instance == "" || len(id.Roles) == 0 {
		return Identity{}, errors.New("the certificate names no cluster, role and instance: it was not made by hawser pki issue")
	}
	return id, nil
}

func uri(cluster, path string) *url.URL { return &url.URL{Scheme: scheme, Host: cluster, Path: path} }
