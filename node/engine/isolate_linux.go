package engine

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/node/sandbox/wire"
)

// Workers of a root node run as users that own nothing and are nobody else's:
// each as another, so that none can signal another, and the kernel counts the
// threads of each. This range is in no use on Linux systems (systemd, "Users,
// Groups, UIDs and GIDs", special ranges).
const (
	firstUser = 1879048192
	users     = 1 << 16
)

var workers atomic.Uint32

const (
	allNamespaces   = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	allNames        = wire.MountNamespace + "." + wire.PIDNamespace + "." + wire.NetNamespace + "." + wire.IPCNamespace + "." + wire.UTSNamespace
	noPIDNamespaces = allNamespaces &^ unix.CLONE_NEWPID
	noPIDNames      = wire.MountNamespace + "." + wire.NetNamespace + "." + wire.IPCNamespace + "." + wire.UTSNamespace
)

// candidates are ways to start a worker, the strongest first; the last always
// works. Namespaces cost a start half a millisecond for root and three for an
// ordinary user, who needs one of users to make the others.
func candidates() []isolation {
	var list []isolation
	if runtime.GOARCH != "amd64" {
		defer func() {
			for i := range list {
				list[i].gaps = append(list[i].gaps, &wire.Gap{Feature: "platform",
					Reason: "the engine has a known sandbox escape on " + runtime.GOARCH, Mend: "run the data node on x86-64"})
			}
		}()
	}
	if os.Geteuid() != 0 {
		list = []isolation{
			{name: allNames, namespaces: allNamespaces, user: true, caps: []uintptr{unix.CAP_SYS_ADMIN}},
			// In a container whose /proc is masked, no new one may be mounted.
			{name: noPIDNames, namespaces: noPIDNamespaces, user: true, caps: []uintptr{unix.CAP_SYS_ADMIN}},
			{},
		}
		return list
	}
	list = []isolation{
		{name: allNames + "." + wire.User, namespaces: allNamespaces, uid: true, caps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_READ_SEARCH}},
		{name: wire.User, uid: true, caps: []uintptr{unix.CAP_DAC_READ_SEARCH}},
		{},
	}
	return list
}

// missing says what is lost when c does not work.
func missing(c isolation, err error) *wire.Gap {
	g := &wire.Gap{Reason: fmt.Sprintf("a worker could not be started with %s: %v", c.name, err)}
	switch {
	case c.name == wire.User:
		g.Feature = "uid"
		g.Mend = "run the node as an ordinary user, or give it CAP_SETUID, CAP_SETGID and CAP_DAC_READ_SEARCH"
	case c.namespaces == allNamespaces && c.user:
		g.Feature = "namespaces:pid"
		g.Mend = "give the container an unmasked /proc, or run the node outside of it"
	default:
		g.Feature = "namespaces"
		g.Mend = "let ordinary users make user namespaces (sysctl user.max_user_namespaces, " +
			"kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with userns), or run the node as root"
	}
	return g
}

// attr: the worker dies when the spawner's thread does.
func (i isolation) attr() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Cloneflags: i.namespaces, AmbientCaps: i.caps}
	if i.user {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	}
	if i.uid {
		id := firstUser + workers.Add(1)%users
		a.Credential = &syscall.Credential{Uid: id, Gid: id}
	}
	return a
}
