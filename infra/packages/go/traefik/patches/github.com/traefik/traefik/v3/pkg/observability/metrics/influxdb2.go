package metrics

import (
	"context"

	"github.com/rs/zerolog/log"
	otypes "github.com/traefik/traefik/v3/pkg/observability/types"
)

// RegisterInfluxDB2 says that this build exports nothing to InfluxDB: its client is left out to save build time.
func RegisterInfluxDB2(ctx context.Context, _ *otypes.InfluxDB2) Registry {
	log.Ctx(ctx).Error().Msg("This build of Traefik has no InfluxDB2 exporter")
	return NewVoidRegistry()
}

// StopInfluxDB2 has nothing to stop.
func StopInfluxDB2() {}
