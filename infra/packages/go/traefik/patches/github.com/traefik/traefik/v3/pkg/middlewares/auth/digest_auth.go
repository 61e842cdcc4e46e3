package auth

import (
	"context"
	"errors"
	"net/http"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
)

// NewDigest refuses for the same reason as NewBasic.
func NewDigest(context.Context, http.Handler, dynamic.DigestAuth, string) (http.Handler, error) {
	return nil, errors.New("this build of Traefik has no DigestAuth middleware")
}
