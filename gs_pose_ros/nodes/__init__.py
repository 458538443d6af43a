"""The ROS 2 nodes: glue between topics, services and the core. Nothing else imports them."""
