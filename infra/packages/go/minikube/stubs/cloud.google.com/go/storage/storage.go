// Package storage stands in for Google's Cloud Storage client (with gRPC's xDS and Envoy's types some 15 MB of source).
// minikube asks it for the checksums of preloaded images, which are never used here (--preload=false).
package storage

import (
	"context"
	"errors"
)

// Client is never handed out.
type Client struct{}

// ObjectAttrs has what minikube reads.
type ObjectAttrs struct{ MD5 []byte }

// BucketHandle and ObjectHandle lead to ObjectAttrs.
type (
	BucketHandle struct{}
	ObjectHandle struct{}
)

var errAbsent = errors.New("this build of minikube has no Cloud Storage client")

// NewClient refuses. Its options are of any type, so that it needs no other package.
func NewClient(context.Context, ...any) (*Client, error) { return nil, errAbsent }

func (*Client) Bucket(string) *BucketHandle                       { return &BucketHandle{} }
func (*BucketHandle) Object(string) *ObjectHandle                 { return &ObjectHandle{} }
func (*ObjectHandle) Attrs(context.Context) (*ObjectAttrs, error) { return nil, errAbsent }
