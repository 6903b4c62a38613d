package process_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/hawser-project/hawser/process"
)

func nothing(string) (string, bool) { return "", false }

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "worker.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTheSampleHasEveryField compares the sample for operators with what is read.
func TestTheSampleHasEveryField(t *testing.T) {
	t.Parallel()
	const sample = "../docs/operate/worker.yaml"
	if _, err := process.ReadWorkerConfig(sample, nothing); err != nil {
		t.Fatal(err)
	}
	octets, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	var has map[string]any
	if err := yaml.Unmarshal(octets, &has); err != nil {
		t.Fatal(err)
	}
	compare(t, "", reflect.TypeFor[process.WorkerConfig](), has)
}

func compare(t *testing.T, path string, want reflect.Type, has map[string]any) {
	t.Helper()
	for f := range want.Fields() {
		name := f.Tag.Get("yaml")
		value, found := has[name]
		if !found {
			t.Errorf("the sample has no %s%s", path, name)
			continue
		}
		if section, ok := value.(map[string]any); ok {
			compare(t, path+name+".", f.Type, section)
		}
	}
}

func TestTheEnvironmentWins(t *testing.T) {
	t.Parallel()
	secret := write(t, "from-a-file\n")
	env := map[string]string{
		"HAWSER_POSTGRES_URL_FILE": secret, "HAWSER_INSTANCE": "seven", "HAWSER_KAFKA_TLS": "true", "HAWSER_POSTGRES_CONNECTIONS": "5",
		"HAWSER_KAFKA_BROKERS": "a:1,b:2",
	}
	c, err := process.ReadWorkerConfig(write(t, "instance: six\npostgres:\n  url: in the file\n"), func(name string) (string, bool) {
		v, found := env[name]
		return v, found
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Instance != "seven" || c.Postgres.URL.RevealString() != "from-a-file" || !c.Kafka.TLS || c.Postgres.Connections != 5 || len(c.Kafka.Brokers) != 2 {
		t.Errorf("got %+v with URL %q", c, c.Postgres.URL.RevealString())
	}
}

func TestFaultsOfTheConfigurationAreReportedTogetherAndWithoutSecrets(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"an unknown key is named with its place": {"kafka:\n  broker: x\n  password: marker-4711\n", []string{"broker", "2"}},
		"a value of another kind":                {"postgres:\n  connections: many\n  url: marker-4711\n", []string{"[2:16]", "of type int"}},
		"what is needed is not there": {"roles: [crypto, nobody]\n", []string{
			`no role "nobody"`, "calls: certificate", "kafka.brokers", "postgres.url", "crypto: passphrase",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := process.ReadWorkerConfig(write(t, test.text), nothing)
			if err == nil {
				err = process.RunWorkers(t.Context(), c, nil, nil)
			}
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want a word about %q", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "4711") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}
