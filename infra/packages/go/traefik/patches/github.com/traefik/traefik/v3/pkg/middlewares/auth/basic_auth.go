package auth

import (
	"context"
	"errors"
	"net/http"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
)

// NewBasic refuses, which disables the route: the module proxy has no fixed version of the library that compares the
// passwords, and the old one must not guard anything.
func NewBasic(context.Context, http.Handler, dynamic.BasicAuth, string) (http.Handler, error) {
	return nil, errors.New("this build of Traefik has no BasicAuth middleware")
}
