package constants

// newer is the Kubernetes version of infra/xtask.toml, which is newer than this minikube. A version that is not in the
// list makes minikube look it up on the internet; a version without images makes it download kubeadm to ask it for them.
const newer = "v1.36.4"

func init() {
	ValidKubernetesVersions = append([]string{newer}, ValidKubernetesVersions...)
	KubeadmImages[newer] = map[string]string{"coredns/coredns": "v1.14.2", "etcd": "3.6.8-0", "pause": "3.10.2"}
}
