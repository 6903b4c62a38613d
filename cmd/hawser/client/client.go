// Package client speaks to a cluster's REST API, as the command line and the demo need it. It knows no more of a cluster
// than any other client would.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hawser-project/hawser/internal/secret"
)

// Client is one user at one cluster.
type Client struct {
	Base     string // https://HOST:PORT
	User     string
	Password secret.Secret
	HTTP     *http.Client
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// New makes a client that trusts the certificates in a PEM file, or, where the file is empty, those of the machine.
func New(base, user string, password secret.Secret, trust string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not the URL of a REST API: want https://HOST:PORT", base)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if trust != "" {
		octets, err := os.ReadFile(trust)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(octets) {
			return nil, fmt.Errorf("%s: no certificate in it", trust)
		}
	}
	return &Client{
		Base: strings.TrimSuffix(base, "/"), User: user, Password: password,
		HTTP: &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 64}},
	}, nil
}

// Error is an answer that is not a success.
type Error struct {
	Status  int               `json:"status"`
	Title   string            `json:"title"`
	Details map[string]string `json:"details"`

	Operation string `json:"-"`
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %d %s", e.Operation, e.Status, e.Title)
	for name, value := range e.Details {
		text += fmt.Sprintf("; %s: %s", name, value)
	}
	return text
}

// StatusOf returns the HTTP status of an Error, or 0.
func StatusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// JSON sends a request with a JSON body (nil: none) and decodes a JSON answer into out (nil: it is dropped).
func (c *Client) JSON(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		octets, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(octets)
	}
	answer, err := c.Raw(ctx, method, path, "application/json", body)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: answer: %w", method, path, err)
	}
	return nil
}

// Raw sends a request and returns the answer's octets.
func (c *Client) Raw(ctx context.Context, method, path, contentType string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, body)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(c.User, c.Password.RevealString())
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		failure := &Error{Operation: method + " " + path}
		if json.Unmarshal(answer, failure) != nil {
			failure.Title = string(answer[:min(len(answer), 300)])
		}
		failure.Status = resp.StatusCode
		return nil, failure
	}
	return answer, nil
}

// Part is one part of an upload: a form field, or a file where it has a file name.
type Part struct{ Name, FileName, Value string }

// Upload sends a multipart form.
func (c *Client) Upload(ctx context.Context, method, path string, out any, parts ...Part) error {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for _, p := range parts {
		create := w.CreateFormField
		if p.FileName != "" {
			create = func(name string) (io.Writer, error) { return w.CreateFormFile(name, p.FileName) }
		}
		field, err := create(p.Name)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(field, p.Value); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	answer, err := c.Raw(ctx, method, path, w.FormDataContentType(), &form)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(answer, out)
}
