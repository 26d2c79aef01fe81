// Command coredns is CoreDNS with only the plugins that the cluster's Corefile names: it builds in a fraction of the
// time of the full one and carries no cloud providers' clients.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

func main() {
	// The order is upstream's (plugin.cfg): a query passes the plugins in this order, whatever the Corefile says.
	dnsserver.Directives = []string{"reload", "health", "ready", "errors", "log", "cache", "loop", "kubernetes", "forward"}
	coremain.Run()
}
