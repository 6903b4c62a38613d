package rest

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/hawser-project/hawser/internal/secret"
)

// everything has a field of each type that bodies have.
type everything struct {
	Text     string             `json:"text"`
	Maybe    *string            `json:"maybe"`
	Flag     bool               `json:"flag"`
	MaybeYes *bool              `json:"maybeYes"`
	Number   int                `json:"number"`
	At       *instant           `json:"at"`
	Password *secret.Secret     `json:"password"`
	JSON     jsonText           `json:"json"`
	List     []inner            `json:"list"`
	Map      map[string]string  `json:"map"`
	MaybeMap *map[string]string `json:"maybeMap"`
}

type inner struct {
	Name string `json:"name"`
}

const whole = `"text":"t","maybe":null,"flag":"TRUE","number":"12","at":"2025-01-31T12:00:00.5Z","password":"p","json":{ "a" : [1, 2] },"list":[{"name":5}],"map":{"k":true}`

func decode(body string) (everything, error) {
	var e everything
	err := decodeBody([]byte(body), "wrapper", reflect.ValueOf(&e))
	return e, err
}

func TestTheDialect(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"{" + whole + "}", `{"wrapper":{` + whole + `}}`, ` {"request":{` + whole + `}} `} {
		e, err := decode(body)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if e.Text != "t" || e.Maybe != nil || !e.Flag || e.MaybeYes != nil || e.Number != 12 || e.JSON != `{"a":[1,2]}` || e.List[0].Name != "5" ||
			e.Map["k"] != "true" || e.MaybeMap != nil || e.Password.RevealString() != "p" ||
			int64(*e.At) != time.Date(2025, 1, 31, 12, 0, 0, 5e8, time.UTC).UnixMilli() {
			t.Errorf("%s: got %+v", body, e)
		}
	}
	e, err := decode(`{"text":"t","json":"{\"a\":1","list":[],"map":{}}`)
	if err != nil || e.JSON != `{"a":1` || e.Flag || e.Number != 0 {
		t.Errorf("a string that is no JSON: %+v, %v", e, err)
	}
	for _, body := range []string{
		`{` + whole + `,"number":99999999999}`, `{` + whole + `,"flag":1}`, `{"wrapper":{` + whole + `},"text":"t"}`, `{"wrapper":[]}`,
		`{"text":"t","json":5,"list":[],"map":{}}`, `{"text":"t","json":{},"list":{},"map":{}}`, `{"text":"t","json":{},"list":[],"map":{"a":null}}`,
		`{"text":"t","json":{},"list":[{"name":"a","name":"b"}],"map":{}}`, `{"text":"t","json":{"a":1,"a":2},"list":[],"map":{}}`,
		`{"text":"t","json":{},"list":[],"map":{},"at":"yesterday"}`, `{"text":"t","json":{},"list":[],"map":{},"number":1.5}`, `null`, `"x"`, `{"text" "t"}`, `{"text":"t",}`,
	} {
		if e, err := decode(body); err == nil {
			t.Errorf("%s was taken: %+v", body, e)
		}
	}
}

// FuzzTheDialect says that no body panics, that what is taken is JSON, and that the wrapper makes no difference.
func FuzzTheDialect(f *testing.F) {
	for _, seed := range []string{"{" + whole + "}", `{"wrapper":{}}`, `{"text":1}`, ``, `[`, `{"a":{"a":{"a":[[[]]]}}}`, `{"text":"\ud800"}`, "{\"text\":\"\xff\"}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var plain, wrapped everything
		if err := decodeBody(body, "wrapper", reflect.ValueOf(&plain)); err != nil {
			return
		}
		if !json.Valid(body) {
			t.Fatalf("%q was taken and is no JSON", body)
		}
		var o map[string]json.RawMessage
		if err := json.Unmarshal(body, &o); err != nil || o["wrapper"] != nil || o["request"] != nil {
			return
		}
		if err := decodeBody(append(append([]byte(`{"wrapper":`), body...), '}'), "wrapper", reflect.ValueOf(&wrapped)); err != nil {
			t.Fatalf("%q is taken alone and not in its wrapper: %v", body, err)
		}
		if plain.Text != wrapped.Text || plain.JSON != wrapped.JSON || len(plain.List) != len(wrapped.List) {
			t.Fatalf("%q: %+v alone, %+v in its wrapper", body, plain, wrapped)
		}
	})
}
