// Package kvm2 registers no driver: the KVM driver is minikube's only use of cgo, and without it minikube needs no C
// compiler and shares the compiled packages of the other tools.
package kvm2
