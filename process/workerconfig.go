package process

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/internal/secret"
)

// WorkerConfig is how a process with some of a cluster's workers is booted. It comes from a file; each value can be given in
// the environment too, which wins: HAWSER_ and the names of its path in upper case, as in HAWSER_POSTGRES_URL; lists with
// commas. A value of the environment whose name ends in _FILE is read from the file that it names.
type WorkerConfig struct {
	// Cluster names the cluster. Topics and schemas begin with it. Default "hawser".
	Cluster string `yaml:"cluster"`
	// Instance names this process, for people. Default: the host's name.
	Instance string `yaml:"instance"`
	// Roles are the workers that run here.
	Roles []string `yaml:"roles"`
	// Data is a directory for what can be made again: compiled modules, and at the first start of the cluster the first
	// administrator's password. Default "data".
	Data string `yaml:"data"`

	Calls    CallsConfig    `yaml:"calls"`
	Kafka    KafkaConfig    `yaml:"kafka"`
	Postgres PostgresConfig `yaml:"postgres"`

	Rest    RestConfig    `yaml:"rest"`
	Gateway GatewayConfig `yaml:"gateway"`
	Crypto  CryptoConfig  `yaml:"crypto"`
	Admin   AdminConfig   `yaml:"admin"`
	Ops     OpsConfig     `yaml:"ops"`
}

// CallsConfig is how workers of different processes reach each other.
type CallsConfig struct {
	// Listen is HOST:PORT. Default 0.0.0.0:7400.
	Listen string `yaml:"listen"`
	// Advertise is the HOST:PORT at which others reach this process. Default: the host's name, and the port of Listen.
	Advertise string `yaml:"advertise"`
	// Certificate, Key and Authority are the PEM files of hawser pki issue. They are read again when they change.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	Authority   string `yaml:"authority"`
	// Gateways are the HOST:PORT at which the gateways' processes take calls. Only link managers need them. A name may stand
	// for many addresses.
	Gateways []string `yaml:"gateways"`
}

// KafkaConfig is how to reach the brokers.
type KafkaConfig struct {
	// Brokers are HOST:PORT of some of the brokers.
	Brokers []string `yaml:"brokers"`
	// TLS says whether the brokers are talked to over TLS, and Authority whose certificates are trusted: a PEM file; empty: those
	// of the system.
	TLS       bool   `yaml:"tls"`
	Authority string `yaml:"authority"`
	// Certificate and Key are PEM files, where the brokers ask for a client's certificate.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: none.
	Mechanism string        `yaml:"mechanism"`
	User      string        `yaml:"user"`
	Password  secret.Secret `yaml:"password"`
}

// PostgresConfig is how to reach the database.
type PostgresConfig struct {
	// URL is postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full.
	URL secret.Secret `yaml:"url"`
	// Connections is how many this process may have. Default 20.
	Connections int `yaml:"connections"`
}

// RestConfig is of the role rest.
type RestConfig struct {
	// Listen is HOST:PORT of the HTTPS API. Default 0.0.0.0:8888.
	Listen string `yaml:"listen"`
	// Certificate and Key are PEM files. Empty: one is made at the first start and kept in Data.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// GatewayConfig is of the role gateway.
type GatewayConfig struct {
	// Listen is HOST:PORT for other clusters' gateways. Default 0.0.0.0:8443.
	Listen string `yaml:"listen"`
}

// CryptoConfig is of the role crypto. All crypto workers of a cluster have the same.
type CryptoConfig struct {
	// Passphrase and Salt make the master key, which wraps all others.
	Passphrase secret.Secret `yaml:"passphrase"`
	Salt       string        `yaml:"salt"`
}

// AdminConfig is of the role admin.
type AdminConfig struct {
	// Password is that of the first administrator. Empty: a random one is written to DATA/secrets/admin-password.
	Password secret.Secret `yaml:"password"`
}

// OpsConfig is of the operations port.
type OpsConfig struct {
	// Listen is HOST:PORT of /ready, /live and /metrics. Empty: none.
	Listen string `yaml:"listen"`
	// Profile serves the Go runtime's profiles there.
	Profile bool `yaml:"profile"`
}

// ReadWorkerConfig reads a file and the environment. An empty path is no file.
func ReadWorkerConfig(path string, env func(string) (string, bool)) (c WorkerConfig, err error) {
	if path != "" {
		octets, err := os.ReadFile(path)
		if err != nil {
			return c, err
		}
		decoder := yaml.NewDecoder(bytes.NewReader(octets), yaml.DisallowUnknownField())
		if err := decoder.Decode(&c); err != nil {
			// Without the lines that the fault is in: there may be a secret beside it.
			return c, fmt.Errorf("%s: %s", path, strings.TrimSpace(yaml.FormatError(err, false, false)))
		}
	}
	return c, errors.Join(fromEnvironment(reflect.ValueOf(&c).Elem(), "HAWSER", env)...)
}

// fromEnvironment sets what the environment has.
func fromEnvironment(v reflect.Value, prefix string, env func(string) (string, bool)) (errs []error) {
	for i := range v.NumField() {
		name := prefix + "_" + strings.ToUpper(v.Type().Field(i).Tag.Get("yaml"))
		field := v.Field(i)
		if _, isSecret := field.Interface().(secret.Secret); field.Kind() == reflect.Struct && !isSecret {
			errs = append(errs, fromEnvironment(field, name, env)...)
			continue
		}
		text, given, err := lookUp(name, env)
		if err == nil && given {
			err = set(field, text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errs
}

func lookUp(name string, env func(string) (string, bool)) (text string, given bool, err error) {
	if text, given = env(name); given {
		return text, true, nil
	}
	path, given := env(name + "_FILE")
	if !given {
		return "", false, nil
	}
	octets, err := os.ReadFile(path)
	return strings.TrimRight(string(octets), "\r\n"), true, err
}

func set(field reflect.Value, text string) error {
	switch target := field.Addr().Interface().(type) {
	case *string:
		*target = text
	case *secret.Secret:
		*target = secret.FromString(text)
	case *[]string:
		*target = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	case *bool:
		v, err := strconv.ParseBool(text)
		*target = v
		return err
	case *int:
		v, err := strconv.Atoi(text)
		*target = v
		return err
	default:
		return fmt.Errorf("a value of type %s can't be given in the environment", field.Type())
	}
	return nil
}

// callsOnly says whether the process is one that has neither bus nor database: that of a gateway.
func (c *WorkerConfig) callsOnly() bool {
	return len(c.Roles) == 1 && c.Roles[0] == string(topic.Gateway)
}

func (c *WorkerConfig) has(role bus.Role) bool { return slices.Contains(c.Roles, string(role)) }

// complete fills in the defaults, and reports all faults together.
func (c *WorkerConfig) complete() error {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	orDefault(&c.Cluster, "hawser")
	orDefault(&c.Instance, host)
	orDefault(&c.Data, "data")
	orDefault(&c.Calls.Listen, "0.0.0.0:7400")
	orDefault(&c.Rest.Listen, "0.0.0.0:8888")
	orDefault(&c.Gateway.Listen, "0.0.0.0:8443")
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Roles) == 0 {
		complain("roles: name at least one of %s", strings.Join(roleNames(), ", "))
	}
	for _, r := range c.Roles {
		if !slices.Contains(roleNames(), r) {
			complain("roles: there is no role %q; there are %s", r, strings.Join(roleNames(), ", "))
		}
	}
	if c.Calls.Certificate == "" || c.Calls.Key == "" || c.Calls.Authority == "" {
		complain("calls: certificate, key and authority are needed: hawser pki issue makes them")
	}
	if _, port, err := net.SplitHostPort(c.Calls.Listen); err != nil {
		complain("calls.listen: %w", err)
	} else {
		orDefault(&c.Calls.Advertise, net.JoinHostPort(host, port))
	}
	if !c.callsOnly() {
		if len(c.Kafka.Brokers) == 0 {
			complain("kafka.brokers: name at least one HOST:PORT")
		}
		if c.Postgres.URL.IsZero() {
			complain("postgres.url is needed")
		}
	}
	if (c.Kafka.Certificate == "") != (c.Kafka.Key == "") {
		complain("kafka: certificate and key are given together or not at all")
	}
	if c.has(topic.Crypto) && (c.Crypto.Passphrase.IsZero() || c.Crypto.Salt == "") {
		complain("crypto: passphrase and salt are needed, the same for every crypto worker of the cluster")
	}
	if (c.Rest.Certificate == "") != (c.Rest.Key == "") {
		complain("rest: certificate and key are given together or not at all")
	}
	return errors.Join(errs...)
}

func orDefault(v *string, def string) {
	if *v == "" {
		*v = def
	}
}

func roleNames() (names []string) {
	for _, r := range roles {
		names = append(names, string(r.Name))
	}
	return names
}

// joinTime is how long a process waits at its start for those that it needs.
const joinTime = 30 * time.Second
