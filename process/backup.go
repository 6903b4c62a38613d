package process

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hawser-project/hawser/bus/embedded"
	"github.com/hawser-project/hawser/cluster/topic"
)

// A backup is a directory: what the data directory holds that can't be made anew, and a manifest with the checksum of every
// file. It has its name only once it is whole.
const (
	backupFormat   = 1
	manifestName   = "BACKUP.json"
	partialSuffix  = ".partial"
	linkSessions   = "linkmanager.inbound-sessions" // the kind of state that worker/linkmanager keeps sessions in
	storeDirectory = "store"
)

// keptDirs are the directories with files that only this process writes, and only at its first start: secrets and the API's
// certificate.
var keptDirs = []string{"secrets", "rest"}

// backupManifest says what a backup holds.
type backupManifest struct {
	Format int          `json:"format"`
	Made   time.Time    `json:"made"`
	Files  []backupFile `json:"files"`
}

type backupFile struct {
	Path   string `json:"path"` // slash-separated
	SHA256 string `json:"sha256"`
}

// Backup makes a backup of a data directory. Where a process runs on it, that one is asked for a copy of its store; all else
// is done here, so that a backup that fails is no matter of the cluster's.
func Backup(ctx context.Context, data, out string, secrets bool) error {
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already: name a directory that is not", out)
	}
	partial, err := filepath.Abs(out + partialSuffix)
	if err != nil {
		return err
	}
	if err := os.Mkdir(partial, 0o700); err != nil {
		return fmt.Errorf("make the backup (a partial one is left by a backup that was cut off, and can be removed): %w", err)
	}
	if err := fillBackup(ctx, data, partial, secrets); err != nil {
		return errors.Join(err, os.RemoveAll(partial))
	}
	if err := os.Rename(partial, out); err != nil {
		return err
	}
	return syncDir(filepath.Dir(out))
}

func fillBackup(ctx context.Context, data, dir string, secrets bool) error {
	if err := copyStore(ctx, data, dir); err != nil {
		return err
	}
	if err := embedded.Strip(ctx, dir, endCopy, linkSessions); err != nil {
		return err
	}
	for _, kept := range keptDirs {
		from := filepath.Join(data, kept)
		if _, err := os.Stat(from); !secrets || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := eachFile(from, func(path string) error {
			_, err := copyFile(filepath.Join(from, path), filepath.Join(dir, kept, path))
			return err
		}); err != nil {
			return err
		}
	}
	m := backupManifest{Format: backupFormat, Made: time.Now().UTC()}
	if err := eachFile(dir, func(path string) error {
		sum, err := hashOf(filepath.Join(dir, path))
		m.Files = append(m.Files, backupFile{filepath.ToSlash(path), sum})
		return errors.Join(err, ctx.Err())
	}); err != nil {
		return err
	}
	octets, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	return writeSynced(filepath.Join(dir, manifestName), octets)
}

// copyStore has the store copied by the process that runs on it, or copies it where there is none.
func copyStore(ctx context.Context, data, dir string) error {
	if asked, err := askForCopy(ctx, data, dir); asked {
		return err
	}
	if _, err := os.Stat(filepath.Join(data, storeDirectory)); err != nil {
		return fmt.Errorf("%s is no data directory: %w", data, err)
	}
	store, err := embedded.Open(embedded.Options{Dir: data, Topics: topic.Definitions(), MemTable: memTable, Cache: blockCache})
	if err != nil {
		return err
	}
	return errors.Join(store.Copy(ctx, dir), store.Close())
}

// endCopy ends a process that can't write a copy.
func endCopy(err error) {
	fmt.Fprintln(os.Stderr, "hawser: backup:", err)
	os.Exit(1) //nolint:revive // the database must not go on after this
}

// Restore makes a data directory of a backup. The directory must be empty or not there yet; it is there only once the whole
// backup was found good.
func Restore(ctx context.Context, from, data string) error {
	if found, err := os.ReadDir(data); err == nil && len(found) > 0 {
		return fmt.Errorf("%s is not empty: a backup is restored to a directory of its own", data)
	}
	m, err := readManifest(from)
	if err != nil {
		return err
	}
	partial := data + partialSuffix
	if err := os.Mkdir(partial, 0o700); err != nil {
		return fmt.Errorf("make the data directory (a partial one is left by a restore that was cut off, and can be removed): %w", err)
	}
	if err := fillData(ctx, m, from, partial); err != nil {
		return errors.Join(err, os.RemoveAll(partial))
	}
	if err := os.Remove(data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(partial, data); err != nil {
		return err
	}
	return syncDir(filepath.Dir(data))
}

func readManifest(from string) (m backupManifest, err error) {
	octets, err := os.ReadFile(filepath.Join(from, manifestName))
	if err != nil {
		return m, fmt.Errorf("%s is no whole backup: %w", from, err)
	}
	if err := json.Unmarshal(octets, &m); err != nil {
		return m, fmt.Errorf("%s: %w", manifestName, err)
	}
	if m.Format != backupFormat {
		return m, fmt.Errorf("the backup has format %d and this release knows %d: use the release that wrote it", m.Format, backupFormat)
	}
	return m, nil
}

// fillData copies a backup's files while it checks them, and opens the store once.
func fillData(ctx context.Context, m backupManifest, from, data string) error {
	for _, f := range m.Files {
		path := filepath.FromSlash(f.Path)
		if !filepath.IsLocal(path) {
			return fmt.Errorf("the backup's manifest names %q, which is outside of it", f.Path)
		}
		sum, err := copyFile(filepath.Join(from, path), filepath.Join(data, path))
		if err != nil {
			return fmt.Errorf("the backup is not whole: %w", err)
		}
		if sum != f.SHA256 {
			return fmt.Errorf("the backup is damaged: %s does not fit its checksum; take another backup", f.Path)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(data, storeDirectory)); err != nil {
		return fmt.Errorf("the backup has no store: %w", err)
	}
	store, err := embedded.Open(embedded.Options{Dir: data, Topics: topic.Definitions(), MemTable: memTable, Cache: blockCache})
	if err != nil {
		return err
	}
	return store.Close()
}

// eachFile calls fn with the path of every file below a directory, relative to it.
func eachFile(dir string, fn func(path string) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return fn(relative)
	})
}

// copyFile copies a file durably, for nobody else to read, and returns its checksum.
func copyFile(from, to string) (sum string, err error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return "", err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, hash), in)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), syncDir(filepath.Dir(to))
}

func hashOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return hex.EncodeToString(hash.Sum(nil)), err
}

func writeSynced(path string, octets []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(octets)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
