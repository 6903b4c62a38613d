package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/topic"
)

type idOutput struct {
	ID string `json:"id"`
}

type uploadInput struct{ Form form }

// uploadPackage streams the file into a blob, and has it checked. Nothing of it is kept in memory.
func (w *Worker) uploadPackage(ctx context.Context, in uploadInput) (idOutput, error) {
	var blob bus.Blob
	var name string
	for name == "" {
		part, err := in.Form.NextPart()
		if errors.Is(err, io.EOF) {
			return idOutput{}, unparsable("upload", `Expected file with parameter name "upload" but it was not found.`)
		}
		if err != nil {
			return idOutput{}, formError(err)
		}
		if part.FormName() != "upload" || part.FileName() == "" {
			continue
		}
		name = part.FileName()
		source := &watched{from: part}
		blob, err = w.Bus.PutBlob(ctx, source, maxUpload)
		if source.err != nil {
			return idOutput{}, formError(source.err)
		}
		if err != nil {
			return idOutput{}, err
		}
	}
	id := uuid.NewString()
	_, _, err := topic.UploadPackage.Do(ctx, w.Bus, id, commandID(ctx), topic.Upload{Actor: actor(ctx), Blob: blob.ID, Size: blob.Size, FileName: name})
	return idOutput{id}, err
}

// watched keeps the error of a body apart from those of the place it is written to.
type watched struct {
	from io.Reader
	err  error
}

func (s *watched) Read(b []byte) (int, error) {
	n, err := s.from.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
		err = fmt.Errorf("read the upload: %v", err) //nolint:errorlint // whoever copies must not take ErrUnexpectedEOF for the end
	}
	return n, err
}

// formError says why a multipart body could not be read.
func formError(err error) error {
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return tooLarge(tooLong.Limit+1, tooLong.Limit)
	}
	return fault.New(fault.Invalid, "the multipart body is damaged, cut short or came in too slowly: %w", withoutAddresses(err))
}

type uploadStatusOutput struct {
	Status   string `json:"status"`
	Checksum string `json:"cpiFileChecksum"`
}

// uploadStatus says how far the check of a package is. What is wrong with the package is the answer's status (spec 2.5).
func (w *Worker) uploadStatus(ctx context.Context, in idInput) (uploadStatusOutput, error) {
	status, err := topic.GetUpload.Do(ctx, w.Bus, in.ID)
	if err != nil || len(status.Error) == 0 {
		return uploadStatusOutput{status.Status, status.Checksum}, err
	}
	refused := fault.Codec{}.DecodeError(status.Error)
	switch fault.KindOf(refused) { //nolint:exhaustive // all other faults of a package are alike
	case fault.Internal:
		return uploadStatusOutput{}, refused
	case fault.Conflict:
		return uploadStatusOutput{}, failure(http.StatusConflict, "DuplicateCpiUploadException",
			"cause", "DuplicateCpiUploadException", "reason", refused.Error())
	}
	return uploadStatusOutput{}, failure(http.StatusBadRequest, "ValidationException", "errorType", "ValidationException",
		"errorMessage", refused.Error(), "message", refused.Error(), "cause", "ValidationException", "reason", refused.Error())
}

type packageID struct {
	Name              string  `json:"cpiName"`
	Version           string  `json:"cpiVersion"`
	SignerSummaryHash *string `json:"signerSummaryHash"`
}

type packageOutput struct {
	ID           packageID      `json:"id"`
	Checksum     string         `json:"cpiFileChecksum"`
	FullChecksum string         `json:"cpiFileFullChecksum"`
	Modules      []moduleOutput `json:"cpks"`
	GroupPolicy  *string        `json:"groupPolicy"`
	Timestamp    instant        `json:"timestamp"`
}

type moduleOutput struct {
	ID         moduleID `json:"id"`
	MainBundle string   `json:"mainBundle"`
	Libraries  []string `json:"libraries"`
	Type       string   `json:"type"`
	Hash       string   `json:"hash"`
	Timestamp  instant  `json:"timestamp"`
}

type moduleID struct {
	Name              string  `json:"name"`
	Version           string  `json:"version"`
	SignerSummaryHash *string `json:"signerSummaryHash"`
}

type packagesOutput struct {
	Packages []packageOutput `json:"cpis"`
}

func (w *Worker) listPackages(ctx context.Context, _ nothing) (packagesOutput, error) {
	packages, err := topic.ListPackages.Do(ctx, w.Bus, struct{}{})
	return packagesOutput{list(packages, packageOf)}, err
}

func packageOf(info cpi.Info) packageOutput {
	return packageOutput{
		ID:       packageID{info.ID.Name, info.ID.Version, orNull(info.ID.SignerSummaryHash)},
		Checksum: info.ShortChecksum(), FullChecksum: info.FileChecksum, GroupPolicy: orNull(info.GroupPolicy), Timestamp: instant(info.UploadedAt),
		Modules: list(info.Modules, func(m cpi.ModuleInfo) moduleOutput {
			return moduleOutput{
				ID: moduleID{m.ID.Name, m.ID.Version, orNull(m.ID.SignerSummaryHash)}, MainBundle: "module.wasm", Libraries: []string{},
				Type: "UNKNOWN", Hash: "SHA-256:" + m.FileHash, Timestamp: instant(info.UploadedAt),
			}
		}),
	}
}
