package getter

import (
	"errors"
	"net/url"
)

// S3Getter stands in for the getter from Amazon S3, whose SDK is most of go-getter's build time; minikube's downloads
// are plain HTTPS.
type S3Getter struct {
	getter
}

var errS3 = errors.New("this build has no downloads from Amazon S3")

// Get refuses.
func (*S3Getter) Get(string, *url.URL) error { return errS3 }

// GetFile refuses.
func (*S3Getter) GetFile(string, *url.URL) error { return errS3 }

// ClientMode refuses.
func (*S3Getter) ClientMode(*url.URL) (ClientMode, error) { return 0, errS3 }
