package cpi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// A manifest is the text form of META-INF/MANIFEST.MF and of .SF files: a main section, and one section per entry.
// Header names are compared without regard to case, so they are kept in lower case.
type manifest struct {
	main     map[string]string
	sections map[string]map[string]string
}

func (m manifest) header(name string) string { return m.main[strings.ToLower(name)] }

// maxSections bounds a manifest. Limits.Entries is usually far lower.
const maxSections = 1 << 14

// parseManifest reads the JAR file specification's format. Headers of one section, and sections of one name, may not
// repeat: two readers could choose differently.
func parseManifest(text []byte) (manifest, error) {
	m := manifest{main: map[string]string{}, sections: map[string]map[string]string{}}
	lines, err := unfold(text)
	if err != nil {
		return m, err
	}
	section, between := m.main, false
	for _, line := range lines {
		if line == "" {
			between = true
			continue
		}
		name, value, ok := strings.Cut(line, ": ")
		name = strings.ToLower(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return m, fmt.Errorf("%q is not a header", clip(line))
		}
		if between {
			if section, err = m.begin(name, value); err != nil {
				return m, err
			}
			between = false
			continue
		}
		if _, twice := section[name]; twice {
			return m, fmt.Errorf("header %q is there twice in one section", clip(name))
		}
		section[name] = value
	}
	return m, nil
}

// begin opens the section that a Name header begins.
func (m manifest) begin(name, value string) (map[string]string, error) {
	if name != "name" {
		return nil, fmt.Errorf("a section must begin with Name, not %q", clip(name))
	}
	if _, twice := m.sections[value]; twice {
		return nil, fmt.Errorf("there are two sections for %q", clip(value))
	}
	if len(m.sections) >= maxSections {
		return nil, fmt.Errorf("it has more than %d sections", maxSections)
	}
	section := map[string]string{}
	m.sections[value] = section
	return section, nil
}

// unfold splits text into lines (which end with CR LF, LF or CR) and joins those that begin with a space to the one
// before.
func unfold(text []byte) ([]string, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("it is longer than %d octets", maxText)
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	var lines []string
	var joined strings.Builder
	flush := func() { lines = append(lines, joined.String()); joined.Reset() }
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, " ") {
			if joined.Len() == 0 {
				return nil, errors.New("a line continues nothing")
			}
			joined.WriteString(line[1:])
			continue
		}
		if i > 0 {
			flush()
		}
		joined.WriteString(line)
	}
	flush()
	return lines, nil
}

// clip shortens what an error quotes.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

// lineLength is what a line may have without its end: 72 octets in the specification, less two for its end.
const lineLength = 70

// writeHeader appends a header, folded.
func writeHeader(b *bytes.Buffer, name, value string) {
	line := name + ": " + value
	for len(line) > lineLength {
		b.WriteString(line[:lineLength] + "\r\n ")
		line = line[lineLength:]
		for i := lineLength - 1; len(line) > i; { // continuation lines have one octet less, for their space
			b.WriteString(line[:i] + "\r\n ")
			line = line[i:]
		}
	}
	b.WriteString(line + "\r\n")
}

// header is one header to write.
type header struct{ name, value string }

const sha256Digest = "SHA-256-Digest"

// makeManifest writes a manifest and the .SF file that signs it: a digest of the whole, and one of each section.
func makeManifest(headers []header, entries []entry) (text, signature []byte) {
	var mf, sf bytes.Buffer
	writeHeader(&mf, "Manifest-Version", "1.0")
	for _, h := range headers {
		writeHeader(&mf, h.name, h.value)
	}
	writeHeader(&mf, "Created-By", "Hawser")
	mf.WriteString("\r\n")
	mainSum := sum64(mf.Bytes())
	var sections bytes.Buffer
	for _, e := range entries {
		start := mf.Len()
		writeHeader(&mf, "Name", e.name)
		writeHeader(&mf, sha256Digest, sum64(e.content))
		mf.WriteString("\r\n")
		writeHeader(&sections, "Name", e.name)
		writeHeader(&sections, sha256Digest, sum64(mf.Bytes()[start:]))
		sections.WriteString("\r\n")
	}
	writeHeader(&sf, "Signature-Version", "1.0")
	writeHeader(&sf, sha256Digest+"-Manifest-Main-Attributes", mainSum)
	writeHeader(&sf, sha256Digest+"-Manifest", sum64(mf.Bytes()))
	writeHeader(&sf, "Created-By", "Hawser")
	sf.WriteString("\r\n")
	sf.Write(sections.Bytes())
	return mf.Bytes(), sf.Bytes()
}

func sum64(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}
