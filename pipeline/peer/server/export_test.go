package server

// Outlive is what stands between clients and etcd.
var Outlive = outlive
