// Package budgie runs containers from .bun files, announces them on the local
// network, finds those of others, and balances traffic over the replicas of a
// service. It is a library: a program that embeds it needs no daemon, no
// control plane and no registry.
//
// # A first program
//
//	client, err := budgie.New()
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer client.Close()
//	web, err := client.RunFile(ctx, "web.bun")
//	if err != nil {
//		log.Fatal(err)
//	}
//	fmt.Println(web[0].URL())
//
// [Client.Run] returns when the container serves. The container lives until its
// context ends, the client is closed, or somebody stops it.
//
// # Who looks after a container
//
// A client looks after the containers that it runs: health, restarts,
// published ports, announcements. [Detached] containers outlive it; the
// supervisor of their data directory looks after them, a process that calls
// [Client.Supervise] and that a client starts when it was told how
// ([WithSupervisorCommand]).
//
// Programs that share a data directory see each other's containers and can stop
// and remove them. They meet in the [Store]: whoever wants something writes the
// desired state, whoever owns the container makes it so and writes what it sees.
// What a program that died left behind, the next one ends; what a supervisor
// that died left running, the next one adopts.
//
// [Client.Exec] runs a command inside a running container, [Client.Stats] measures
// one, and [Client.Inspect] tells all that is known of any, whoever runs it.
//
// # Ports
//
// A published port, TCP or UDP, is a socket of the client, with a proxy behind it
// that leads to the container while that serves, and, for TCP, to the replicas of
// its service on other nodes. It stays open while the container restarts.
//
// # The flock
//
// Machines that share a token are a flock ([Client.Token], package trust).
// Announcements say in which flock a machine is. What travels between machines,
// they have proved to each other before.
//
// # The five interfaces
//
// A client stands on a [Runtime], a [Discoverer], a [Syncer], a [Balancer] and a
// [Store]. The defaults need nothing installed; options swap them. For each
// there is a conformance suite and a fake: packages runtime/runtimetest,
// discovery/discoverytest, replica/replicatest, balance/balancetest, and
// store/storetest with store/memory.
//
// # Environment
//
// BUDGIE_DATA_DIR, BUDGIE_BIND, BUDGIE_INTERFACES, BUDGIE_PEERS, BUDGIE_SYNC_RATE
// and BUDGIE_TOKEN are the defaults of [WithDataDir], [WithBindAddress],
// [WithInterfaces], [WithPeers], [WithSyncRate] and [WithToken].
package budgie
