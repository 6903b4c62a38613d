package fault_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/hawser-project/hawser/cluster/fault"
)

type busError struct{}

func (busError) Error() string     { return "later" }
func (busError) FaultKind() string { return "unavailable" }

func TestTheKindOfAnErrorIsFoundBelowWraps(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]fault.Kind{
		errors.New("plain"): fault.Internal,
		fmt.Errorf("while: %w", fault.New(fault.NotFound, "no such node")): fault.NotFound,
		fmt.Errorf("while: %w", busError{}):                                fault.Unavailable,
		fault.New(fault.Conflict, "exists").With("id", "7"):                fault.Conflict,
	} {
		if got := fault.KindOf(err); got != want {
			t.Errorf("%v: got kind %v, want %v", err, got, want)
		}
	}
}

func TestAnErrorTravelsWithKindTextAndDetails(t *testing.T) {
	t.Parallel()
	var codec fault.Codec
	err := codec.DecodeError(codec.EncodeError(fault.New(fault.Conflict, "flow %q exists", "a").With("status", "RUNNING")))
	if fault.KindOf(err) != fault.Conflict || err.Error() != `flow "a" exists` || fault.DetailsOf(err)["status"] != "RUNNING" {
		t.Errorf("got %v %q %v", fault.KindOf(err), err, fault.DetailsOf(err))
	}
	if got := fault.KindOf(codec.DecodeError([]byte{0xff})); got != fault.Internal {
		t.Errorf("octets that are no error: got kind %v, want internal", got)
	}
}

func TestCausesStayVisible(t *testing.T) {
	t.Parallel()
	if err := fault.New(fault.Invalid, "read: %w", io.ErrUnexpectedEOF); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
}

func TestEveryKindHasAStatus(t *testing.T) {
	t.Parallel()
	for k := fault.Internal; k <= fault.Deadline; k++ {
		if http.StatusText(k.HTTPStatus()) == "" {
			t.Errorf("%v has status %d", k, k.HTTPStatus())
		}
	}
	if got := fault.Kind(200).HTTPStatus(); got != http.StatusInternalServerError {
		t.Errorf("a kind of a later release has status %d, want 500", got)
	}
}
