package bus

import (
	"context"
	"io"
)

// callsOnly is the driver of a process that has calls only.
type callsOnly struct{}

var errCallsOnly = failure(kindForbidden, "this process has calls only: it reads and writes nothing")

func (callsOnly) Partitions(Role) int32 { return 1 }
func (callsOnly) Own(context.Context, Role, func(context.Context, *Ownership)) error {
	return errCallsOnly
}
func (callsOnly) Get(context.Context, RowKey) ([]byte, uint64, error) { return nil, 0, errCallsOnly }
func (callsOnly) Scan(context.Context, Range, func(Row) bool) error   { return errCallsOnly }
func (callsOnly) Submit(step *Step)                                   { step.Done(Commit{}, errCallsOnly) }
func (callsOnly) Barrier(context.Context) error                       { return nil }
func (callsOnly) Read(context.Context, ReadFrom) (Cursor, error)      { return nil, errCallsOnly }
func (callsOnly) Current(context.Context, string) (Commit, error)     { return Commit{}, errCallsOnly }
func (callsOnly) Lags(context.Context, string) ([]Lag, error)         { return nil, errCallsOnly }
func (callsOnly) PutBlob(context.Context, io.Reader, int64) (Blob, error) {
	return Blob{}, errCallsOnly
}
func (callsOnly) OpenBlob(context.Context, BlobID) (BlobReader, error) { return nil, errCallsOnly }
func (callsOnly) Blobs(context.Context) ([]Blob, error)                { return nil, errCallsOnly }
func (callsOnly) RemoveBlob(context.Context, BlobID) error             { return errCallsOnly }
func (callsOnly) Close() error                                         { return nil }
