// Package knative stands in for Traefik's Knative provider, which is left out to save build time. The static configuration
// still names the type; starting it is refused.
package knative

import (
	"errors"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/safe"
)

// ProviderName is listed among the names that other providers may not use.
const ProviderName = "knative"

// Provider has no settings: none would be obeyed.
type Provider struct{}

// SetDefaults has nothing to set.
func (p *Provider) SetDefaults() {}

// Init refuses: a configured provider that is silently ignored would be worse.
func (p *Provider) Init() error { return errors.New("this build of Traefik has no Knative provider") }

// Provide is never reached, because Init refuses.
func (p *Provider) Provide(chan<- dynamic.Message, *safe.Pool) error { return p.Init() }
