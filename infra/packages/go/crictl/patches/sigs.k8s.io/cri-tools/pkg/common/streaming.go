package common

import (
	"fmt"
	"net/url"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// Transports of a stream to a container.
const (
	TransportWebsocket = "websocket"
	TransportSpdy      = "spdy"
)

// GetExecutor serves exec and attach. The dialer for port-forward is left out: it needs a newer client-go than the
// one that the other tools share.
func GetExecutor(transport string, to *url.URL, tls *rest.TLSClientConfig) (remotecommand.Executor, error) {
	config := &rest.Config{TLSClientConfig: *tls}
	switch transport {
	case TransportSpdy:
		return remotecommand.NewSPDYExecutor(config, "POST", to)
	case TransportWebsocket:
		return remotecommand.NewWebSocketExecutor(config, "GET", to.String())
	}
	return nil, fmt.Errorf("unknown transport: %s", transport)
}
