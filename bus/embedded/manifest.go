package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The MANIFEST is blocks of 32 KiB with chunks in them: CRC (4 octets), length (2), type (1), content. No chunk crosses a
// block's end, and what is left of a block below a header's size is zeros.
const (
	manifestBlock  = 32 << 10
	chunkHeader    = 7
	sector         = 512 // what a disk writes as a whole
	checksumOffset = 0xa282ead8
)

// checkManifest refuses a store whose MANIFEST is damaged. Pebble takes whatever it can't read there for the torn end that a
// loss of power leaves, and goes on with an older state of the store without a word. A torn end lacks sectors: they are
// missing from the file, or zeros. A chunk that has all of its sectors and does not fit its checksum is damage. What can't be
// told from a torn end is a length that was changed to lead past the file's end.
func checkManifest(fs vfs.FS, dir string) error {
	desc, err := pebble.Peek(dir, fs)
	if err != nil || !desc.Exists {
		return err
	}
	f, err := fs.Open(fs.PathJoin(dir, fs.PathBase(desc.ManifestFilename)))
	if err != nil {
		return err
	}
	octets, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read the manifest: %w", err)
	}
	if at := damageIn(octets); at >= 0 {
		return fmt.Errorf("%w: %s at octet %d", errCorrupt, desc.ManifestFilename, at)
	}
	return nil
}

// damageIn returns where a damaged chunk begins, or -1.
func damageIn(octets []byte) int {
	for at := 0; at+chunkHeader <= len(octets); {
		if left := manifestBlock - at%manifestBlock; left < chunkHeader {
			at += left
			continue
		}
		header := octets[at : at+chunkHeader]
		end := at + chunkHeader + int(binary.LittleEndian.Uint16(header[4:]))
		if end > len(octets) || len(bytes.Trim(header, "\x00")) == 0 {
			return -1 // torn off
		}
		if binary.LittleEndian.Uint32(header) != checksum(octets[at+6:end]) {
			if lacksSector(octets, at, end) {
				return -1
			}
			return at
		}
		at = end
	}
	return -1
}

// checksum is Pebble's: a CRC that is turned and moved, so that content with checksums in it does not look right by chance.
func checksum(b []byte) uint32 {
	c := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	return (c>>15 | c<<17) + checksumOffset
}

// lacksSector says whether one of the sectors of a chunk was not written.
func lacksSector(octets []byte, from, to int) bool {
	for from < to {
		end := min(to, from-from%sector+sector)
		if len(bytes.Trim(octets[from:end], "\x00")) == 0 {
			return true
		}
		from = end
	}
	return false
}
