package faults

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus/embedded"
)

// childVariable makes the test binary a child that runs the workload on the directory that it names.
const childVariable = "HAWSER_FAULTS_CHILD"

func TestMain(m *testing.M) {
	if description := os.Getenv(workerVariable); description != "" {
		work(description)
		return
	}
	if dir := os.Getenv(childVariable); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child runs a workload until it is killed, and says on stdout what an observer is told. It begins after the numbers that
// its arguments give per key.
func child(dir string) {
	s, err := embedded.Open(embedded.Options{Dir: dir, Topics: definitions(), MemTable: 1 << 20})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	from := make(map[string]int)
	for _, arg := range os.Args[1:] {
		key, n, _ := strings.Cut(arg, "=")
		from[key], _ = strconv.Atoi(n)
	}
	start(s, printer{}, load{keys: 8, fill: 500}, from)
	select {}
}

// printer writes each observation with one call, so that none is in this process's memory when it dies.
type printer struct{}

func (printer) sent(key string, n int)  { _, _ = fmt.Fprintf(os.Stdout, "sent %s %d\n", key, n) }
func (printer) acked(key string, n int) { _, _ = fmt.Fprintf(os.Stdout, "acked %s %d\n", key, n) }
func (printer) seen(key string, n int)  { _, _ = fmt.Fprintf(os.Stdout, "seen %s %d\n", key, n) }

// TestWhatWasAcknowledgedSurvivesKills kills a process with SIGKILL, again and again, HAWSER_KILLS times.
func TestWhatWasAcknowledgedSurvivesKills(t *testing.T) {
	t.Parallel()
	dir, notes := t.TempDir(), newNotebook()
	kills := fromEnvironment(t, "HAWSER_KILLS", 5)
	for range kills {
		runAndKill(t, dir, notes, time.Duration(rand.IntN(200))*time.Millisecond)
	}
	s, err := embedded.Open(embedded.Options{Dir: dir, Topics: definitions()})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	mustHold(t, settle(t, s, notes.history))
	acked, _ := notes.counts()
	t.Logf("%d kills, %d records acknowledged", kills, acked)
	if acked == 0 {
		t.Error("nothing was acknowledged")
	}
}

// runAndKill starts a child, writes down what it says, and kills it some time after its first acknowledgement.
func runAndKill(t *testing.T, dir string, notes *notebook, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	for key, n := range notes.sentOf() {
		cmd.Args = append(cmd.Args, fmt.Sprintf("%s=%d", key, n))
	}
	cmd.Env = append(os.Environ(), childVariable+"="+dir)
	cmd.Stderr = os.Stderr
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dying := false
	for lines := bufio.NewScanner(said); lines.Scan(); {
		var what, key string
		var n int
		if _, err := fmt.Sscan(lines.Text(), &what, &key, &n); err != nil {
			continue // the last line, cut off by the kill
		}
		switch what {
		case "sent":
			notes.sent(key, n)
		case "acked":
			notes.acked(key, n)
			if !dying {
				dying = true
				time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			}
		case "seen":
			notes.seen(key, n)
		}
	}
	if err := cmd.Wait(); err == nil || !dying {
		t.Errorf("the child ended by itself: %v", err)
	}
}
