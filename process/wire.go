package process

import (
	"context"
	"net"
	"path/filepath"

	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/worker/admin"
	"github.com/hawser-project/hawser/worker/crypto"
	"github.com/hawser-project/hawser/worker/flow"
	"github.com/hawser-project/hawser/worker/gateway"
	"github.com/hawser-project/hawser/worker/linkmanager"
	"github.com/hawser-project/hawser/worker/membership"
	"github.com/hawser-project/hawser/worker/rest"
)

// Each worker is given the bus in its own role, and no more of the process's configuration than it needs.

func (p *platform) crypto() crypto.Config {
	return crypto.Config{Bus: p.bus.As(topic.Crypto), Log: p.log("crypto"), Passphrase: p.MasterPassphrase, Salt: p.MasterSalt}
}

func (p *platform) admin() admin.Config {
	return admin.Config{
		Bus: p.bus.As(topic.Admin), Log: p.log("admin"), FirstPassword: p.AdminPassword,
		PasswordFile: filepath.Join(p.secrets(), "admin-password"),
	}
}

func (p *platform) membership() membership.Config {
	return membership.Config{Bus: p.bus.As(topic.Membership), Log: p.log("membership")}
}

func (p *platform) flow() flow.Config {
	return flow.Config{
		Bus: p.bus.As(topic.Flow), Log: p.log("flow"), Metrics: p.registry, CacheDir: filepath.Join(p.Data, "modules"),
	}
}

func (p *platform) linkManager() linkmanager.Config {
	return linkmanager.Config{Bus: p.bus.As(topic.LinkManager), Log: p.log("linkmanager"), Metrics: p.registry}
}

func (p *platform) gateway() gateway.Config {
	return gateway.Config{
		Bus: p.bus.As(topic.Gateway), Log: p.log("gateway"), Metrics: p.registry, Listen: p.Config.Gateway,
		Bound: p.bound(func(a *Addresses, at net.Addr) { a.Gateway = at }),
	}
}

func (p *platform) rest() rest.Config {
	return rest.Config{
		Bus: p.bus.As(topic.Rest), Log: p.log("rest"), Metrics: p.registry, Address: p.Config.Rest,
		CertFile: p.RestCert, KeyFile: p.RestKey, Dir: filepath.Join(p.Data, "rest"),
		Bound: p.bound(func(a *Addresses, at net.Addr) { a.Rest = at }),
	}
}

// ModuleChecker looks at modules as a cluster does at upload, for the command line.
type ModuleChecker = flow.ModuleChecker

// NewModuleChecker makes one. It is to be closed.
func NewModuleChecker(ctx context.Context) (*ModuleChecker, error) { return flow.NewModuleChecker(ctx) }
