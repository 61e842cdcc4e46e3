// Package plugins stands in for Traefik's plugins, whose interpreters of Go and WebAssembly are left out to save build time.
// The static configuration still names them; loading one is refused.
package plugins

import (
	"context"
	"errors"
	"net/http"

	"github.com/traefik/traefik/v3/pkg/provider"
)

var errLeftOut = errors.New("this build of Traefik has no plugins")

// Descriptor has no settings: none would be obeyed.
type Descriptor struct{}

// LocalDescriptor has no settings: none would be obeyed.
type LocalDescriptor struct{}

// Constructor creates a plugin handler.
type Constructor func(context.Context, http.Handler) (http.Handler, error)

// RegistryDownloaderOptions says how plugins would be downloaded.
type RegistryDownloaderOptions struct {
	HTTPClient   *http.Client
	ArchivesPath string
}

// NewRegistryDownloader refuses: a configured plugin that is silently ignored would be worse.
func NewRegistryDownloader(RegistryDownloaderOptions) (any, error) { return nil, errLeftOut }

// ManagerOptions says where plugins would be kept.
type ManagerOptions struct{ Output string }

// Manager is never made.
type Manager struct{}

// NewManager refuses as NewRegistryDownloader does.
func NewManager(any, ManagerOptions) (*Manager, error) { return nil, errLeftOut }

// SetupRemotePlugins refuses as NewRegistryDownloader does.
func SetupRemotePlugins(*Manager, map[string]Descriptor) error { return errLeftOut }

// SetupLocalPlugins refuses as NewRegistryDownloader does.
func SetupLocalPlugins(map[string]LocalDescriptor) error { return errLeftOut }

// Builder builds nothing.
type Builder struct{}

// NewBuilder is reached without plugins only.
func NewBuilder(*Manager, map[string]Descriptor, map[string]LocalDescriptor) (*Builder, error) {
	return &Builder{}, nil
}

// Build refuses a middleware that names a plugin.
func (b Builder) Build(string, map[string]any, string) (Constructor, error) { return nil, errLeftOut }

// BuildProvider refuses a provider that names a plugin.
func (b Builder) BuildProvider(string, map[string]any) (provider.Provider, error) {
	return nil, errLeftOut
}
