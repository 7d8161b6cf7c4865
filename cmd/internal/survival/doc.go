// Package survival has no code but tests: hosts of a mesh, each with an address of its own
// and real agents, peers and servers on it, to which everything happens that may happen to
// hosts and networks. Meanwhile clients write to the mesh, and at the end everything that
// was acknowledged must be there.
package survival
