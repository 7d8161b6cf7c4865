// Package pipeline turns a graph of resources into a run: it loads and compiles graph
// files, swaps new graphs in, applies the meta-parameters, and assembles sources,
// Sequence and sinks into the dataflow that keeps a host in its desired state.
package pipeline
