// Package nomad stands in for Traefik's Nomad provider, which is left out to save build time. The static configuration still
// names the type; starting it is refused.
package nomad

import (
	"errors"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/safe"
)

// ProviderName is listed among the names that other providers may not use.
const ProviderName = "nomad"

// ProviderBuilder has no settings: none would be obeyed.
type ProviderBuilder struct{}

// SetDefaults has nothing to set.
func (p *ProviderBuilder) SetDefaults() {}

// BuildProviders returns the provider that refuses.
func (p *ProviderBuilder) BuildProviders() []*Provider { return []*Provider{{}} }

// Provider is the one that refuses.
type Provider struct{}

// Init refuses: a configured provider that is silently ignored would be worse.
func (p *Provider) Init() error { return errors.New("this build of Traefik has no Nomad provider") }

// Provide is never reached, because Init refuses.
func (p *Provider) Provide(chan<- dynamic.Message, *safe.Pool) error { return p.Init() }
