"""kube-controller-manager's room: one file a controller, `table.py` the whole list, `manager.py` what runs them."""
