package rest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestABodyThatDoesNotComeIsCutOff takes as long as a body may take to begin.
func TestABodyThatDoesNotComeIsCutOff(t *testing.T) {
	if testing.Short() {
		t.Skip("waits 20 s")
	}
	t.Parallel()
	c := start(t)
	c.admin().get(base + "/role").want(200)
	body, w := io.Pipe()
	defer func() { _ = w.Close() }()
	go func() { _, _ = io.WriteString(w, `{"roleName":`) }()
	began := time.Now()
	r := c.admin().send("POST", base+"/role", "", body)
	if took := time.Since(began); r.status != http.StatusBadRequest || !strings.Contains(r.body, "came in too slowly") || took > 25*time.Second {
		t.Errorf("got %d %s after %s", r.status, r.body, took)
	}
	c.admin().get(base + "/role").want(200)
}
