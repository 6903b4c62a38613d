package admin

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/grouppolicy"
	"github.com/hawser-project/hawser/cluster/topic"
)

// State of packages.
var (
	// uploads has every upload: key its id.
	uploads = bus.State[pending]{Name: "admin.uploads", Owner: topic.Admin}
	// packages has the packages: key packagesKey, row the full checksum. They are shared: uploads meet on them.
	packages = bus.State[cpi.Info]{Name: "admin.packages", Owner: topic.Admin}
	// packageIDs keeps a name, version and signer from being there twice: key packagesKey, value the full checksum.
	packageIDs = bus.State[string]{Name: "admin.package-ids", Owner: topic.Admin}
)

const packagesKey = "packages"

// Progress texts of an upload, as Corda's clients know them (spec/rest-rbac-config.md 2.5).
const (
	statusValidating = "Validating upload"
	statusOK         = "OK"
	statusFailed     = "Failed"
)

// pending is an upload with what is needed to check it.
type pending struct {
	Status topic.UploadStatus `cbor:"1,keyasint"`
	Upload topic.Upload       `cbor:"2,keyasint"`
}

// upload takes a package up. It is checked in a step of its own, since that takes a while.
func (w *Worker) upload(_ context.Context, tx *bus.Tx, id string, req topic.Upload) (topic.UploadStatus, error) {
	p := pending{Status: topic.UploadStatus{ID: id, Status: statusValidating, UpdatedAt: tx.Now().UnixMilli()}, Upload: req}
	uploads.Put(tx, id, "", p)
	tx.KeepBlob(req.Blob, "upload/"+id)
	tx.SetTimer("check", tx.Now())
	return p.Status, nil
}

// checkUpload checks an uploaded package and takes it in. What is wrong with it becomes the upload's status.
func (w *Worker) checkUpload(ctx context.Context, tx *bus.Tx, id, _ string) error {
	p, found, err := uploads.Get(tx, id, "")
	if err != nil || !found {
		return err
	}
	info, err := w.takeIn(ctx, tx, p.Upload)
	switch kind := fault.KindOf(err); {
	case err == nil:
		p.Status.Status, p.Status.Checksum = statusOK, info.ShortChecksum()
		w.audit(tx, p.Upload.Actor, "CPI_UPLOAD", info.ID.String()+" "+info.ShortChecksum())
	case kind == fault.Invalid || kind == fault.Conflict || kind == fault.TooLarge || kind == fault.NotImplemented:
		p.Status.Status, p.Status.Error = statusFailed, fault.Codec{}.EncodeError(err)
	default:
		return err
	}
	p.Status.UpdatedAt = tx.Now().UnixMilli()
	uploads.Put(tx, id, "", p)
	tx.DropBlob(p.Upload.Blob, "upload/"+id)
	return nil
}

// takeIn opens the package and writes its record. It writes nothing when it returns an error.
func (w *Worker) takeIn(ctx context.Context, tx *bus.Tx, u topic.Upload) (cpi.Info, error) {
	trusted, err := codeSigners(tx)
	if err != nil {
		return cpi.Info{}, err
	}
	if len(trusted) == 0 {
		return cpi.Info{}, fault.New(fault.Invalid, "no code-signer certificate is there: import the signer's with PUT /certificate/cluster/code-signer first")
	}
	blob, err := w.Bus.OpenBlob(ctx, u.Blob)
	if err != nil {
		return cpi.Info{}, err
	}
	defer func() { _ = blob.Close() }()
	var trouble error // of the flow worker: it says nothing about the package, so the check is made again
	pkg, err := cpi.Open(blob, blob.Size(), cpi.Options{
		Trusted: trusted, Now: tx.Now(), CheckGroupPolicy: checkPolicy,
		CheckModule: func(name string, wasm []byte) ([]byte, error) {
			manifest, err := topic.CheckModule.Do(ctx, w.Bus, topic.ModuleCheck{Name: name, WASM: wasm})
			if fault.KindOf(err) == fault.Internal {
				trouble = fault.New(fault.Unavailable, "check module %s: %w", name, err)
			}
			return manifest, err
		},
	})
	if err != nil && trouble != nil {
		return cpi.Info{}, trouble
	}
	if err != nil {
		return cpi.Info{}, err
	}
	info := pkg.Info(tx.Now())
	idRow := fmt.Sprintf("%q %q %s", info.ID.Name, info.ID.Version, info.ID.SignerSummaryHash)
	if other, taken, err := packageIDs.Get(tx, packagesKey, idRow); err != nil {
		return cpi.Info{}, err
	} else if taken {
		return cpi.Info{}, fault.New(fault.Conflict, "a package with name %q, version %q and this signer is there already, with checksum %.12s", info.ID.Name, info.ID.Version, other)
	}
	blobs, err := w.storeModules(ctx, pkg)
	if err != nil {
		return cpi.Info{}, err
	}
	for _, b := range blobs {
		tx.KeepBlob(b, "package/"+info.FileChecksum)
	}
	packageIDs.Put(tx, packagesKey, idRow, info.FileChecksum)
	packages.Put(tx, packagesKey, info.FileChecksum, info)
	topic.Packages.Send(tx, info.FileChecksum, info)
	return info, nil
}

// storeModules makes a blob of each module, for the flow workers.
func (w *Worker) storeModules(ctx context.Context, pkg *cpi.Package) (ids []bus.BlobID, err error) {
	for _, m := range pkg.Modules {
		r, err := m.Open()
		if err != nil {
			return nil, err
		}
		blob, err := w.Bus.PutBlob(ctx, io.LimitReader(r, m.Size), m.Size)
		_ = r.Close()
		if err != nil {
			return nil, err
		}
		ids = append(ids, blob.ID)
	}
	return ids, nil
}

// checkPolicy refuses what this release does not do, rather than have a network half work.
func checkPolicy(policy []byte) error {
	p, err := grouppolicy.Parse(policy)
	if err != nil {
		return err
	}
	switch {
	case p.Shape != grouppolicy.Static:
		return fault.New(fault.NotImplemented, "the group policy is of a network run by a manager (%s); this release has static networks only", p.Shape)
	case p.P2P.TLSType != grouppolicy.OneWay:
		return fault.New(fault.NotImplemented, "the group policy asks for mutual TLS (p2pParameters.tlsType %s); this release has OneWay only", p.P2P.TLSType)
	case p.P2P.SessionPKI != grouppolicy.NoPKI:
		return fault.New(fault.NotImplemented, "the group policy asks for session certificates (p2pParameters.sessionPki %s); this release has NoPKI only", p.P2P.SessionPKI)
	case p.P2P.ProtocolMode != grouppolicy.AuthenticatedEncryption:
		return fault.New(fault.NotImplemented, "the group policy asks for p2pParameters.protocolMode %s; this release has Authenticated_Encryption only", p.P2P.ProtocolMode)
	}
	return nil
}

func (w *Worker) getUpload(ctx context.Context, id string) (status topic.UploadStatus, err error) {
	err = w.Bus.View(ctx, func(r bus.Reader) error {
		p, found, err := uploads.Get(r, id, "")
		if err == nil && !found {
			err = fault.New(fault.Invalid, "No such requestId=%s", id) // 400, as Corda
		}
		status = p.Status
		return err
	})
	return status, err
}

// listPackages returns the packages, in order of name and version.
func (w *Worker) listPackages(ctx context.Context, _ struct{}) ([]cpi.Info, error) {
	list, err := listAll(ctx, w, packages, packagesKey)
	slices.SortFunc(list, func(a, b cpi.Info) int {
		return cmp.Or(cmp.Compare(a.ID.Name, b.ID.Name), cmp.Compare(a.ID.Version, b.ID.Version), bytes.Compare([]byte(a.FileChecksum), []byte(b.FileChecksum)))
	})
	return list, err
}
