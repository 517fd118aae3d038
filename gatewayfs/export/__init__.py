"""NFS: the configuration nfs-ganesha needs for a share, and what keeps clients going when a gateway crashes."""
