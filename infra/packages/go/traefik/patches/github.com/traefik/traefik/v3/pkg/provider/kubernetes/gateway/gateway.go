// Package gateway stands in for Traefik's Gateway API provider, whose types and clients are left out to save build time. The
// static configuration still names the type; starting it is refused.
package gateway

import (
	"errors"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/safe"
)

// ProviderName is listed among the names that other providers may not use.
const ProviderName = "kubernetesgateway"

// Entrypoint is an entry point as the static configuration hands it over.
type Entrypoint struct {
	Address        string
	HasHTTPTLSConf bool
}

// BuildFilterFunc is what other providers would add for filters.
type BuildFilterFunc func(name, namespace string) (string, *dynamic.Middleware, error)

// BuildBackendFunc is what other providers would add for backends.
type BuildBackendFunc func(name, namespace string) (string, *dynamic.Service, error)

// ExtensionBuilderRegistry takes what other providers would add.
type ExtensionBuilderRegistry interface {
	RegisterFilterFuncs(group, kind string, builderFunc BuildFilterFunc)
	RegisterBackendFuncs(group, kind string, builderFunc BuildBackendFunc)
}

// Provider has no settings: none would be obeyed.
type Provider struct {
	EntryPoints map[string]Entrypoint `json:"-" toml:"-" yaml:"-" label:"-" file:"-"`
}

// SetDefaults has nothing to set.
func (p *Provider) SetDefaults() {}

// RegisterFilterFuncs adds nothing.
func (p *Provider) RegisterFilterFuncs(string, string, BuildFilterFunc) {}

// RegisterBackendFuncs adds nothing.
func (p *Provider) RegisterBackendFuncs(string, string, BuildBackendFunc) {}

// Init refuses: a configured provider that is silently ignored would be worse.
func (p *Provider) Init() error {
	return errors.New("this build of Traefik has no Gateway API provider")
}

// Provide is never reached, because Init refuses.
func (p *Provider) Provide(chan<- dynamic.Message, *safe.Pool) error { return p.Init() }
