package getter

import (
	"errors"
	"net/url"
)

// GCSGetter stands in for the getter from Google Cloud Storage, whose SDK is most of go-getter's build time; minikube's downloads
// are plain HTTPS.
type GCSGetter struct {
	getter
}

var errGCS = errors.New("this build has no downloads from Google Cloud Storage")

// Get refuses.
func (*GCSGetter) Get(string, *url.URL) error { return errGCS }

// GetFile refuses.
func (*GCSGetter) GetFile(string, *url.URL) error { return errGCS }

// ClientMode refuses.
func (*GCSGetter) ClientMode(*url.URL) (ClientMode, error) { return 0, errGCS }
